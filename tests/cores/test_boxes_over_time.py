"""Tests of boxes at any moment from boxes at some moments."""

import numpy as np
import pytest

from pipeline.cores.boxes_over_time import BoxesOverTime

SECOND = 1_000_000_000


def over_time(*rows: tuple[int, float, float], max_gap_s: float = 1, hold_s: float = 0.0) -> BoxesOverTime:
    """Return boxes of 10 px from (track, time in s, left edge)."""
    tracks = np.array([track for track, _, _ in rows], np.int64)
    times = np.array([round(time_s * SECOND) for _, time_s, _ in rows], np.int64)
    boxes = np.array([[left, 0, left + 10, 10] for _, _, left in rows], np.float64).reshape(-1, 4)
    gap, hold = round(max_gap_s * SECOND), round(hold_s * SECOND)
    return BoxesOverTime.of(tracks, times, boxes, max_gap_ns=gap, hold_ns=hold)


def lefts(boxes: BoxesOverTime, time_s: float) -> dict[int, float]:
    tracks, at = boxes.at(round(time_s * SECOND))
    return dict(zip(tracks.tolist(), at[:, 0].tolist(), strict=True))


def test_a_box_moves_evenly_between_two_moments() -> None:
    boxes = over_time((1, 0, 0), (1, 1, 100))
    assert lefts(boxes, 0) == {1: 0}
    assert lefts(boxes, 0.25) == {1: 25}
    assert lefts(boxes, 1) == {1: 100}


def test_at_its_moment_a_box_is_exactly_itself() -> None:
    times = np.arange(50) / 29.97
    boxes = over_time(*((1, time, index * 3.7) for index, time in enumerate(times)), max_gap_s=0)
    assert [lefts(boxes, time) for time in times] == [{1: index * 3.7} for index in range(50)]


def test_nothing_fills_a_gap_that_is_too_long() -> None:
    boxes = over_time((1, 0, 0), (1, 3, 90), max_gap_s=2)
    assert lefts(boxes, 0) == {1: 0}
    assert lefts(boxes, 1.5) == {}
    assert lefts(boxes, 3) == {1: 90}


def test_a_box_is_held_at_the_ends_of_its_track_and_no_longer() -> None:
    boxes = over_time((1, 1, 5), (1, 2, 15), hold_s=0.1)
    assert lefts(boxes, 0.85) == {}
    assert lefts(boxes, 0.95) == {1: 5}
    assert lefts(boxes, 2.1) == {1: 15}
    assert lefts(boxes, 2.11) == {}


def test_held_boxes_meet_in_the_middle_of_a_gap() -> None:
    boxes = over_time((1, 0, 0), (1, 1, 50), max_gap_s=0.5, hold_s=5)
    assert lefts(boxes, 0.49) == {1: 0}
    assert lefts(boxes, 0.51) == {1: 50}


def test_tracks_do_not_mix() -> None:
    boxes = over_time((2, 0, 0), (1, 0.5, 40), (2, 1, 100), (1, 1.5, 60))
    assert lefts(boxes, 0.75) == {1: 45, 2: 75}
    assert lefts(boxes, 0.1) == {2: 10}


def test_without_boxes_there_are_none() -> None:
    tracks, at = over_time().at(0)
    assert (len(tracks), at.shape) == (0, (0, 4))


@pytest.mark.parametrize("seed", range(5))
def test_every_order_of_the_rows_gives_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [(int(track), float(time), float(time * track)) for track in range(1, 4) for time in range(10)]
    shuffled = [rows[index] for index in random.permutation(len(rows))]
    assert all(lefts(over_time(*rows), t / 7) == lefts(over_time(*shuffled), t / 7) for t in range(70))
