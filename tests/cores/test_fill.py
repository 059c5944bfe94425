from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load
from pipeline.cores.fill import Knots, Rows, ShotFrames, intervals, rows_between

FRAME_NS = 40_000_000  # 25 Hz
GAP_NS = int(load().track.fill_gap_s * 1e9)


def shot_of(num_frames: int, *, start: int = 0, every: int = 1, first: int = 0) -> ShotFrames:
    """Return a shot at 25 Hz in which every `every`-th frame from frame `first` is analysed."""
    frames = np.arange(start, start + num_frames)
    return ShotFrames(start, frames * FRAME_NS, frames[first::every])


def knots_of(*tracklets: Mapping[int, float]) -> Knots:
    """Return one tracklet for each {frame: x}, with boxes of 50 x 100 px."""
    rows = [(index, frame, x) for index, xs in enumerate(tracklets) for frame, x in xs.items()]
    table = np.array(rows, np.float64).reshape(-1, 3)
    x = table[:, 2]
    boxes = np.stack([x, 0 * x, x + 50, 0 * x + 100], axis=1).astype(np.float32)
    scores = np.full(len(rows), 0.9, np.float32)
    return Knots.ordered(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes, scores)


def all_rows(knots: Knots, shot: ShotFrames, gap_ns: int = GAP_NS) -> Rows:
    return rows_between(knots, shot, gap_ns, shot.start, shot.end)


def lefts(rows: Rows) -> dict[int, float]:
    return dict(zip(rows.frames.tolist(), np.round(rows.boxes[:, 0].astype(float), 3).tolist(), strict=True))


def test_frames_between_analysed_ones_lie_on_the_line() -> None:
    rows = all_rows(knots_of({0: 0, 4: 10}), shot_of(5, every=4))
    assert lefts(rows) == {0: 0, 1: 2.5, 2: 5, 3: 7.5, 4: 10}
    assert rows.interpolated.tolist() == [False, True, True, True, False]
    assert np.isnan(rows.scores).tolist() == rows.interpolated.tolist()
    assert rows.scores[0] == np.float32(0.9)


def test_the_line_is_in_time_not_in_frames() -> None:
    shot = replace(shot_of(4, every=3), times_ns=np.array([0, 10, 90, 100]) * 1_000_000)
    assert lefts(all_rows(knots_of({0: 0, 3: 10}), shot)) == {0: 0, 1: 1, 2: 9, 3: 10}


def test_filled_boxes_are_rounded_to_a_tenth_of_a_pixel_and_knots_are_left_alone() -> None:
    rows = all_rows(knots_of({0: 0.25, 3: 1.25}), shot_of(4, every=3))
    assert lefts(rows) == {0: 0.25, 1: 0.6, 2: 0.9, 3: 1.25}


@pytest.mark.parametrize(("last", "filled"), [(25, True), (26, False)])
def test_gaps_up_to_the_limit_are_filled_and_longer_ones_stay_empty(last: int, filled: bool) -> None:
    shot = shot_of(40)
    rows = all_rows(knots_of({0: 0, last: 26}), shot)
    assert len(rows) == (last + 1 if filled else 2)


def test_neighbouring_analysed_frames_are_bridged_however_far_they_are_apart() -> None:
    sparse = shot_of(101, every=50)  # one analysed frame in two seconds
    assert len(all_rows(knots_of({0: 0, 50: 5}), sparse)) == 51
    assert len(all_rows(knots_of({0: 0, 100: 5}), sparse)) == 2


def test_whoever_is_there_at_the_first_and_last_look_is_held_to_the_borders_of_the_shot() -> None:
    shot = shot_of(11, start=100, every=4, first=2)  # analysed: 102, 106, 110
    rows = all_rows(knots_of({102: 0, 106: 4}), replace(shot, analysed=shot.analysed[:2]))
    assert lefts(rows) == {100: 0, 101: 0, 102: 0, 103: 1, 104: 2, 105: 3, 106: 4, 107: 4, 108: 4, 109: 4, 110: 4}
    assert np.flatnonzero(~rows.interpolated).tolist() == [2, 6]


def test_whoever_comes_later_or_leaves_earlier_is_not_held() -> None:
    shot = shot_of(20, every=4, first=2)  # analysed: 2, 6, 10, 14, 18
    assert all_rows(knots_of({6: 0, 10: 0}), shot).frames.tolist() == [6, 7, 8, 9, 10]


def test_rows_are_ordered_by_frame_then_tracklet() -> None:
    rows = all_rows(knots_of({0: 0, 2: 0}, {0: 300, 2: 300}), shot_of(3, every=2))
    assert rows.frames.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.tracklets.tolist() == [0, 1] * 3


def test_intervals_are_the_runs_of_rows() -> None:
    shot = shot_of(100, every=4, first=2)
    runs = intervals(knots_of({2: 0, 6: 0, 50: 0}, {98: 0}), shot, GAP_NS)
    assert runs.tracklets.tolist() == [0, 0, 1]
    assert list(zip(runs.starts.tolist(), runs.ends.tolist(), strict=True)) == [(0, 7), (50, 51), (98, 100)]


def test_no_knots_no_rows() -> None:
    assert len(all_rows(knots_of(), shot_of(5))) == 0
    assert len(intervals(knots_of(), shot_of(5), GAP_NS).starts) == 0
    assert len(all_rows(knots_of(), ShotFrames(0, np.arange(3), np.zeros(0, np.int64)))) == 0


@st.composite
def shots_with_people(draw: st.DrawFn) -> tuple[Knots, ShotFrames]:
    num_frames = draw(st.integers(1, 60))
    start = draw(st.integers(0, 100))
    steps = draw(st.lists(st.integers(1, 900), min_size=num_frames, max_size=num_frames))
    analysed = sorted(draw(st.sets(st.integers(0, num_frames - 1), min_size=1)))
    shot = ShotFrames(start, np.cumsum(steps) * 1_000_000, np.array(analysed) + start)
    people = draw(st.lists(st.dictionaries(st.sampled_from(analysed), st.integers(0, 500), min_size=1), max_size=4))
    return knots_of(*[{frame + start: x for frame, x in person.items()} for person in people]), shot


@given(shots_with_people(), st.data())
def test_windows_of_any_length_give_the_rows_of_the_whole_even_from_the_knots_around_them(
    scene: tuple[Knots, ShotFrames], data: st.DataObject
) -> None:
    knots, shot = scene
    borders = data.draw(st.sets(st.integers(shot.start, shot.end))) | {shot.start, shot.end}
    parts = []
    for first, end in zip(sorted(borders)[:-1], sorted(borders)[1:], strict=True):
        near = np.zeros(len(knots), np.bool_)
        for tracklet in np.unique(knots.tracklets):
            mine = np.flatnonzero(knots.tracklets == tracklet)
            before, after = mine[knots.frames[mine] < first], mine[knots.frames[mine] >= end]
            near[np.setdiff1d(mine, np.concatenate([before, after]))] = True
            near[before[-1:]] = True
            near[after[:1]] = True
        part = Knots(knots.tracklets[near], knots.frames[near], knots.boxes[near], knots.scores[near])
        parts.append(rows_between(part, shot, GAP_NS, first, end))
    whole = all_rows(knots, shot)
    for column in ("tracklets", "frames", "boxes", "scores", "interpolated"):
        streamed = np.concatenate([getattr(part, column) for part in parts])
        assert streamed.tobytes() == getattr(whole, column).tobytes()


@given(shots_with_people())
def test_intervals_hold_exactly_the_frames_of_the_rows(scene: tuple[Knots, ShotFrames]) -> None:
    knots, shot = scene
    rows, runs = all_rows(knots, shot), intervals(knots, shot, GAP_NS)
    seen = set(zip(rows.tracklets.tolist(), rows.frames.tolist(), strict=True))
    assert len(seen) == len(rows)
    assert len(seen) == int((runs.ends - runs.starts).sum())
    spans = zip(runs.tracklets.tolist(), runs.starts.tolist(), runs.ends.tolist(), strict=True)
    assert seen == {(tracklet, frame) for tracklet, start, end in spans for frame in range(start, end)}
    assert (rows.frames >= shot.start).all()
    assert (rows.frames < shot.end).all()
