"""A forgotten person is recognised by place and time, and nobody else is."""

import json

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.forgotten import Path, Recogniser, paths_of

FPS = 25


def walk(frames: NDArray[np.int64], left: float, speed: float) -> NDArray[np.float64]:
    """Return boxes of 60 x 180 px that move `speed` px a second."""
    x = left + speed * frames / FPS
    return np.stack([x, np.full(len(x), 100.0), x + 60, np.full(len(x), 280.0)], axis=1)


def paths(frames: NDArray[np.int64], left: float, speed: float, tracklet: int = 1) -> list[Path]:
    ids = np.full(len(frames), tracklet)
    return list(paths_of(ids, frames, frames / FPS, walk(frames, left, speed)))


def recognised(path: list[Path], **tracklets: tuple[NDArray[np.int64], float, float]) -> list[int]:
    """Return the tracklets, numbered from 1, that are the person on `path`. All are shown in parts of whole frames."""
    ids = np.concatenate([np.full(len(frames), i) for i, (frames, _, _) in enumerate(tracklets.values(), start=1)])
    frames = np.concatenate([frames for frames, _, _ in tracklets.values()])
    boxes = np.concatenate([walk(*values) for values in tracklets.values()])
    recogniser = Recogniser(path)
    for part in np.array_split(np.unique(frames), 3):
        rows = np.isin(frames, part)
        recogniser.add(ids[rows], frames[rows], boxes[rows])
    return recogniser.tracklets().tolist()


ALL = np.arange(1, 101)


def test_two_boxes_a_second_are_kept_and_the_ends() -> None:
    (path,) = paths(ALL, 10, 50)
    assert path.frames.tolist() == [1, 13, 25, 38, 50, 63, 75, 88, 100]
    assert np.abs(path.at(ALL) - walk(ALL, 10, 50)).max() <= 1


def test_a_gap_divides_a_path() -> None:
    both = paths(np.r_[1:20, 40:60], 10, 50)
    assert [(path.frames[0], path.frames[-1]) for path in both] == [(1, 19), (40, 59)]


def test_a_path_survives_its_tombstone() -> None:
    (path,) = paths(ALL, 10, 50)
    again = Path.from_json(json.loads(json.dumps(path.to_json())))
    assert np.array_equal(again.frames, path.frames)
    assert np.array_equal(again.boxes, path.boxes)


def test_a_neighbour_who_overlaps_is_not_taken_for_the_person() -> None:
    assert recognised(paths(ALL, 10, 50), the=(ALL, 10, 50), near=(ALL, 25, 50)) == [1]


def test_one_who_crosses_the_way_of_the_person_is_not_taken_for_the_person() -> None:
    assert recognised(paths(ALL, 10, 50), the=(ALL, 12, 50), crossing=(ALL, 210, -50)) == [1]


def test_a_person_whom_another_tracker_divides_is_recognised_in_all_parts() -> None:
    parts = {"first": (ALL[3:30], 14.0, 50.0), "second": (ALL[40:44], 6.0, 50.0), "away": (ALL, 500.0, 0.0)}
    assert recognised(paths(ALL, 10, 50), **parts) == [1, 2]


def test_a_person_who_is_longer_in_the_picture_for_another_tracker_is_recognised() -> None:
    assert recognised(paths(ALL[40:60], 10, 50), the=(ALL, 10, 50)) == [1]


def test_one_who_comes_later_at_the_same_place_is_somebody_else() -> None:
    assert recognised(paths(ALL[:40], 10, 0), later=(ALL[45:], 10, 0), other=(ALL[:40], 300, 0)) == []
