from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load
from pipeline.cores.plan import (
    NS,
    OPEN_END,
    ChunkParams,
    Grid,
    PlannedSpan,
    analysed,
    cell_of,
    disjoint,
    exact,
    plan_spans,
    slot_of,
)

PARAMS = replace(load().chunk, cell_seconds=1, max_seconds=4)


def plan(
    duration_s: float,
    keyframes_s: list[float],
    *,
    enterable: bool = True,
    durable: tuple[tuple[int, int], ...] = (),
    params: ChunkParams = PARAMS,
) -> list[PlannedSpan]:
    return plan_spans(
        duration_s=duration_s,
        keyframe_ns=[round(key * NS) for key in keyframes_s],
        enterable=enterable,
        params=params,
        durable=durable,
    )


def chunks_of(spans: list[PlannedSpan]) -> list[tuple[int, int]]:
    return [chunk for span in spans for chunk in span.chunks()]


def test_a_frame_on_a_cell_border_belongs_to_the_later_cell() -> None:
    assert [cell_of(Fraction(k, 25), Fraction(1)) for k in (0, 24, 25, 49, 50)] == [0, 0, 1, 1, 2]


def test_knobs_are_the_decimals_that_were_typed() -> None:
    assert cell_of(Fraction(3, 10), exact(0.1)) == 3


def test_the_grid_starts_anew_in_every_cell() -> None:
    slots = [slot_of(Fraction(k, 25), Fraction(1), Fraction(8)) for k in range(50)]
    assert slots[:25] == slots[25:]
    assert sorted(set(slots)) == list(range(8))


def test_stamps_rounded_to_milliseconds_fall_into_the_slot_that_was_meant() -> None:
    exactly = [slot_of(Fraction(k, 30), Fraction(1), Fraction(15)) for k in range(30)]
    rounded = [slot_of(Fraction(round(k * 1000 / 30), 1000), Fraction(1), Fraction(15)) for k in range(30)]
    assert rounded == exactly


def test_the_last_half_millisecond_of_a_cell_opens_no_slot_beyond_the_grid() -> None:
    assert slot_of(Fraction(9999, 10000), Fraction(1), Fraction(8)) == 7
    assert slot_of(Fraction(9999, 10000), Fraction(1), Fraction(7, 2)) == 3


@given(
    st.integers(0, 10**9),
    st.sampled_from([Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000), Fraction(7, 1)]),
    st.sampled_from([Fraction(1), Fraction(1, 10), Fraction(5, 2), Fraction(1001, 1000)]),
    st.sampled_from([Fraction(8), Fraction(15), Fraction(7, 2), Fraction(1, 8), Fraction(25)]),
)
def test_a_grid_of_ticks_is_the_grid_of_exact_seconds(
    ticks: int, tick_s: Fraction, cell_s: Fraction, fps: Fraction
) -> None:
    grid, time_s = Grid.of(tick_s, cell_s, fps), ticks * tick_s
    assert grid.cell_of(ticks) == cell_of(time_s, cell_s)
    assert grid.slot_of(ticks) == slot_of(time_s, cell_s, fps)
    assert grid.ns_of(ticks) == int(time_s * 1_000_000_000)


def test_borders_are_the_first_cell_border_at_or_after_a_keyframe() -> None:
    assert chunks_of(plan(12, [0, 2.5, 3.9, 6.0, 9.2])) == [(0, 4), (4, 6), (6, 10), (10, OPEN_END)]


def test_a_chunk_is_at_least_one_group_of_pictures() -> None:
    assert chunks_of(plan(30, [0, 10.4, 20.8])) == [(0, 11), (11, 21), (21, OPEN_END)]


def test_without_known_keyframes_borders_are_at_fixed_distances() -> None:
    assert chunks_of(plan(10, [])) == [(0, 4), (4, 8), (8, OPEN_END)]


def test_a_short_video_and_one_of_unknown_length_are_one_open_chunk() -> None:
    assert chunks_of(plan(0.04, [0])) == [(0, OPEN_END)]
    assert chunks_of(plan(0, [])) == [(0, OPEN_END)]


def test_a_video_that_cannot_be_entered_is_one_span_with_a_border_for_every_chunk() -> None:
    assert plan(10, [0, 5], enterable=False) == [PlannedSpan(0, OPEN_END, (0, 4, 8), ())]


def test_a_span_that_is_repeated_names_its_durable_chunks_and_ends_with_the_last_missing_one() -> None:
    assert plan(10, [], enterable=False, durable=((0, 4),)) == [PlannedSpan(0, OPEN_END, (0, 4, 8), (0,))]
    assert plan(10, [], enterable=False, durable=((0, 4), (8, OPEN_END))) == [PlannedSpan(0, 8, (0, 4), (0,))]


def test_durable_chunks_of_another_length_are_left_out() -> None:
    keys = [float(k) for k in range(20)]
    assert chunks_of(plan(20, keys, durable=((0, 10),))) == [(10, 14), (14, 18), (18, OPEN_END)]
    assert chunks_of(plan(20, keys, durable=((5, 10), (10, OPEN_END)))) == [(0, 4), (4, 5)]


def test_nothing_is_planned_for_a_complete_video() -> None:
    assert plan(20, [0, 10], durable=((0, 10), (10, OPEN_END))) == []
    assert plan(20, [0], enterable=False, durable=((0, 10), (10, OPEN_END))) == []


def test_a_video_is_not_complete_before_its_open_end_is_durable() -> None:
    assert chunks_of(plan(20, [0, 10], durable=((0, 10), (10, 20)))) == [(20, OPEN_END)]


def test_of_overlapping_durable_chunks_those_count_that_reach_farthest_from_the_left() -> None:
    assert disjoint([(4, 8), (0, 4), (0, 10), (10, OPEN_END), (8, 12)]) == [(0, 10), (10, OPEN_END)]


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="max_seconds must be at least cell_seconds"):
        ChunkParams(cell_seconds=2, max_seconds=1)


@given(
    duration_s=st.floats(0, 100),
    keys=st.lists(st.floats(0, 100), max_size=20).map(sorted),
    enterable=st.booleans(),
    max_seconds=st.sampled_from([1, 2, 7, 30]),
    first=st.sampled_from([1, 3, 10]),
)
def test_planned_and_durable_chunks_cover_every_cell_once(
    duration_s: float, keys: list[float], enterable: bool, max_seconds: float, first: int
) -> None:
    earlier = chunks_of(plan(duration_s, keys, enterable=enterable, params=replace(PARAMS, max_seconds=first)))
    durable = tuple(earlier[::2])
    spans = plan(
        duration_s, keys, enterable=enterable, durable=durable, params=replace(PARAMS, max_seconds=max_seconds)
    )
    planned = [chunk for span in spans for chunk in span.chunks() if chunk[0] not in span.durable]
    cover = sorted([*durable, *planned])
    assert cover[0][0] == 0
    assert cover[-1][1] == OPEN_END
    assert all(a[1] == b[0] for a, b in pairwise(cover))


def test_the_first_frame_of_every_slot_is_analysed() -> None:
    times_s = [Fraction(ms, 1000) for ms in (0, 100, 125, 240, 400, 990, 1000, 1124)]
    assert analysed(times_s, Fraction(1), Fraction(8)) == [0, 2, 4, 5, 6]
    assert analysed(times_s, Fraction(1), Fraction(0)) == list(range(8))
    assert analysed([Fraction(0), Fraction(1)], Fraction(1), Fraction(1)) == [0, 1]
    assert analysed([], Fraction(1), Fraction(8)) == []
