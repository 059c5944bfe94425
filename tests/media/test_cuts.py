from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode

from pipeline.config import load
from pipeline.media.cuts import find_shots
from tests.clips import scene
from tests.shared import SHARED, needs_shared

CUTS = load().cuts
Differences = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def differences(pictures: list[NDArray[np.uint8]]) -> Differences:
    planes = [cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.int64) for picture in pictures]
    sums = [np.abs(b - a).sum(axis=(0, 1)) for a, b in pairwise(planes)]
    hue, saturation, lightness = np.array([*sums, np.zeros(3)], np.int64).T
    return hue, saturation, lightness


def times(num_frames: int, fps: int = 25) -> NDArray[np.int64]:
    return np.arange(num_frames, dtype=np.int64) * 1_000_000_000 // fps


def shots(times_ns: NDArray[np.int64], sums: Differences, pixels: int = 160 * 96) -> list[tuple[int, int]]:
    return find_shots(times_ns, *sums, pixels=pixels, threshold=CUTS.threshold, min_shot_s=CUTS.min_shot_s)


def test_hard_cuts_are_found_where_they_are() -> None:
    sums = differences(list(scene(100, cuts=(30, 70))))
    assert shots(times(100), sums) == [(0, 30), (30, 70), (70, 100)]


def test_the_stored_scores_give_the_cuts_that_the_detector_finds_in_the_pictures() -> None:
    pictures = list(scene(200, cuts=(20, 31, 90, 95, 150)))  # some closer together than the shortest shot
    detector = ContentDetector(threshold=CUTS.threshold, min_scene_len=float(CUTS.min_shot_s))
    cuts = [
        cut.frame_num
        for index, picture in enumerate(pictures)
        for cut in detector.process_frame(
            FrameTimecode(index, Fraction(25)), np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        )
    ]
    ours = shots(times(200), differences(pictures))
    assert [first for first, _ in ours[1:]] == cuts
    assert len(cuts) >= 3


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_hue_saturation_and_lightness_count_a_third_each(plane: int) -> None:
    for score, expected in ((CUTS.threshold + 0.01, 2), (CUTS.threshold - 0.01, 1)):
        sums = np.zeros((3, 60), np.int64)
        sums[plane, 29] = round(3 * score * 160 * 96)
        assert len(shots(times(60), (sums[0], sums[1], sums[2]))) == expected


def test_times_count_and_not_frames_where_the_rate_varies() -> None:
    pictures = list(scene(60, cuts=(20, 30)))
    even, sums = times(60), differences(pictures)
    slow = np.where(np.arange(60) < 20, even, even + np.maximum(0, np.arange(60) - 20) * 100_000_000)
    assert shots(even, sums) != shots(slow, sums)
    assert shots(slow, sums) == [(0, 20), (20, 30), (30, 60)]  # .4 s of frames at 25 a second last 1.4 s here


def test_one_frame_is_one_shot_and_no_frame_none() -> None:
    zero = np.zeros(1, np.int64)
    assert shots(zero, (zero, zero, zero)) == [(0, 1)]
    assert shots(zero[:0], (zero[:0], zero[:0], zero[:0])) == []


def test_the_shots_cover_every_frame_once() -> None:
    random = np.random.default_rng(0)
    sums = random.integers(0, 90 * 160 * 96, (3, 300))
    ranges = shots(times(300), (sums[0], sums[1], sums[2]))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 300
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in zip(ranges, [*ranges[1:], (300, 300)], strict=True))


@needs_shared
@pytest.mark.parametrize(
    ("clip", "starts"),
    [
        ("multishot-anamorphic.mp4", [0, 70, 170, 301, 421, 484]),
        ("multishot-vfr.mp4", [0, 60, 140]),
        ("plaza.mp4", [0]),
    ],
)
def test_cuts_of_real_videos_are_those_that_a_viewer_sees(clip: str, starts: list[int]) -> None:
    from pipeline.media.decode import SpanDecoder
    from pipeline.media.probing import probe

    path = str(Path(SHARED, "clips", clip))
    decoder = SpanDecoder(
        lambda: path, probe(lambda: path), 0, -1, fps=0.001, cell_seconds=1, thumbnail_px=256, threads=1
    )
    frames = list(decoder)
    sums = np.array([frame.differences or (0, 0, 0) for frame in frames], np.int64).T
    ranges = shots(np.array([f.time_ns for f in frames]), (sums[0], sums[1], sums[2]), decoder.thumbnail_pixels)
    assert [first for first, _ in ranges] == starts
