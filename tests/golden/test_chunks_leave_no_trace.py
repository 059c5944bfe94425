"""The first law of identity, on real videos with real networks: the length of a chunk changes no byte of any table."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from pipeline.arrays import Picture
from tests import clips
from tests.golden.by_hand import differing, process
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared

CLIPS = SHARED / "clips"
EVERY_CLIP = [*sorted(CLIPS.glob("*.*")), *sorted((SHARED / "gt" / "mot").glob("*/*.mp4"))]


def keyframe_every_second(folder: Path) -> Path:
    return clips.re_encode(CLIPS / "two-friends.mp4", folder / "every-second.mp4", limit_s=14, width=480)


def open_groups(folder: Path) -> Path:
    return clips.re_encode(CLIPS / "street-backlit.mp4", folder / "open.mp4", width=640, open_gop=True)


def variable_rate(folder: Path) -> Path:
    return clips.re_encode(CLIPS / "multishot-vfr.mp4", folder / "variable.mkv", width=640, variable=True)


def cut_on_a_border(folder: Path) -> Path:
    """Write a video with a hard cut exactly at 4 s, where a chunk of 4 s ends."""
    scenes = [pictures(CLIPS / name, 100) for name in ("two-friends.mp4", "meeting.mp4", "two-friends.mp4")]
    return clips.write_video(folder / "cut.mp4", chain(*scenes), keyframe_every=25)


def pictures(video: Path, count: int) -> Iterator[Picture]:
    with av.open(str(video)) as container:
        for frame in islice(container.decode(video=0), count):
            yield np.asarray(frame.reformat(width=480, height=360, format="rgb24").to_ndarray(), np.uint8)


def transport_stream(folder: Path) -> Path:
    return clips.re_encode(CLIPS / "plaza.mp4", folder / "plaza.ts", limit_s=9, width=480)


def compare(video: Path, folder: Path, lengths: tuple[int, ...], *settings: str) -> None:
    assert process(video, folder / "whole", "chunk.max_seconds=600", *settings) == 1
    for length in lengths:
        place = folder / f"chunks-{length}"
        num_chunks = process(video, place, f"chunk.max_seconds={length}", *settings)
        duration_s = pd.read_parquet(place / "videos").duration_s[0]
        assert num_chunks >= 2 if duration_s > 2 * length else num_chunks >= 1
        assert differing(folder / "whole", place) == []
    assert len(pd.read_parquet(folder / "whole" / "detections")) > 0


def test_chunks_of_one_and_two_seconds_leave_no_trace(tmp_path: Path) -> None:
    video = clips.re_encode(CLIPS / "talkshow.mp4", tmp_path / "short.mp4", width=480, keyframe_s=0.5)
    compare(video, tmp_path, (1, 2), "observe.fps=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [keyframe_every_second, open_groups, variable_rate, cut_on_a_border, transport_stream],
    ids=lambda make: make.__name__,
)
def test_chunks_of_4_10_and_30_seconds_leave_no_trace(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    compare(make(tmp_path), tmp_path, (4, 10, 30))


@pytest.mark.slow
@pytest.mark.parametrize("clip", EVERY_CLIP, ids=lambda clip: clip.stem)
def test_chunks_of_2_5_10_and_600_seconds_of_every_clip_leave_no_trace(tmp_path: Path, clip: Path) -> None:
    """The clips are whole and have a keyframe every second. They are small, so that networks are quick."""
    video = clips.re_encode(clip, tmp_path / "every-second.mp4", width=400)
    compare(video, tmp_path, (2, 5, 10), "observe.fps=4", "observe.detector.image_size=320")
