from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores.stamps import FellBack, Stamped, in_line, is_lone_start

TICK_S = Fraction(1, 3000)


def line(times_s: list[Fraction], keys: set[int] = frozenset()) -> list[Stamped[int]]:  # type: ignore[assignment]
    return [Stamped(number, int(time_s / TICK_S), number in keys) for number, time_s in enumerate(times_s)]


def kept(times_s: list[Fraction], keys: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    return [frame.item for frame in in_line(line(times_s, keys), TICK_S)]


ticks = st.integers(1, 180).map(lambda count: Fraction(count, 60))
pauses = st.lists(ticks, min_size=8, max_size=20)
shifts = st.integers(-2400, 2400).map(lambda count: Fraction(count, 60))


def rising(steps: list[Fraction]) -> list[Fraction]:
    times_s = [Fraction(0)]
    for step in steps:
        times_s.append(times_s[-1] + step)
    return times_s


@given(pauses)
def test_every_frame_with_a_rising_stamp_is_kept(steps: list[Fraction]) -> None:
    assert kept(rising(steps)) == list(range(len(steps) + 1))


@given(pauses, shifts, st.data())
def test_one_wrong_stamp_costs_at_most_one_frame_beside_its_own(
    steps: list[Fraction], shift_s: Fraction, data: st.DataObject
) -> None:
    times_s = rising(steps)
    number = data.draw(st.integers(1, len(times_s) - 3))
    wrong = [*times_s[:number], times_s[number] + shift_s, *times_s[number + 1 :]]
    frames = list(in_line(line(wrong), TICK_S))
    assert all(a.ticks < b.ticks for a, b in pairwise(frames))
    assert all(frame.ticks * TICK_S == times_s[frame.item] for frame in frames if frame.item != number)
    assert len(frames) >= len(times_s) - 1


@given(pauses, shifts, st.integers(2, 6), st.data())
def test_the_frames_from_a_keyframe_on_are_those_of_the_whole(
    steps: list[Fraction], shift_s: Fraction, every: int, data: st.DataObject
) -> None:
    """Decoding may begin at each keyframe. A wrong stamp before it, on it or after it changes no later frame."""
    times_s = rising(steps)
    number = data.draw(st.integers(1, len(times_s) - 1))
    times_s[number] += shift_s
    keys = set(range(0, len(times_s), every))
    whole = list(in_line(line(times_s, keys), TICK_S))
    for key in keys:
        if key != number:  # decoding does not begin at a keyframe with a wrong stamp
            entered = list(in_line(line(times_s, keys)[key:], TICK_S, entered=key > 0))
            own = [frame for frame in whole if frame.ticks * TICK_S >= times_s[key] and frame.item >= key]
            assert [frame for frame in entered if frame.ticks * TICK_S >= times_s[key]] == own


def test_two_frames_with_far_stamps_cost_those_two() -> None:
    times_s = [Fraction(number, 25) for number in range(40)]
    times_s[10:12] = [Fraction(1000), Fraction(1001)]
    assert kept(times_s) == [number for number in range(40) if number not in (10, 11)]


def test_a_clock_that_falls_back_and_stays_there_is_a_fault() -> None:
    times_s = [Fraction(number, 25) for number in range(50)]
    with pytest.raises(FellBack) as fall:
        kept(times_s * 2)
    assert fall.value.by_s == Fraction(49, 25)


def test_a_first_stamp_of_another_clock_is_known() -> None:
    clock = [Fraction(5000) + Fraction(number, 25) for number in range(20)]
    assert is_lone_start([Fraction(0), *clock])
    assert not is_lone_start(clock)
    assert not is_lone_start([Fraction(60 * number) for number in range(20)])
