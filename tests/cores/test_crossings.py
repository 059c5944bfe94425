"""Tests of lines, zones and sides on the ways of simulated people."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores.crossings import Crossing, CrossingParams, Sightings, find_crossings, signed_steps

SIZE = (1000, 500)
WIDTH, HEIGHT = 40.0, 100.0
FPS = 8
DOOR = ((0.5, 0.2), (0.5, 0.8))
"""A line from top to bottom: `in` is from the right to the left of the picture."""
ROOM = ((0.4, 0.2), (0.6, 0.2), (0.6, 0.9), (0.4, 0.9))


def params(**values: Any) -> CrossingParams:
    usual = {"lines": {}, "zones": {}, "sides": False, "anchor": "bottom", "jitter": 0.1, "max_gap_s": 2.0}
    return CrossingParams(**cast(Any, usual | values))


def walk(feet: Sequence[tuple[float, float]], person: int = 1, start_s: float = 0.0) -> Sightings:
    """Return a person whose feet are at these places (shares of the picture), FPS times a second."""
    x, y = (np.array(feet) * SIZE).T
    boxes = np.stack([x - WIDTH / 2, y - HEIGHT, x + WIDTH / 2, y], axis=1)
    count = len(feet)
    times_s = start_s + np.arange(count) / FPS
    return Sightings(np.full(count, person), np.ones(count, np.int64), times_s, boxes)


def joined(*ways: Sightings) -> Sightings:
    return Sightings(*(np.concatenate([getattr(way, name) for way in ways]) for name in Sightings.__slots__))


def along(start: tuple[float, float], end: tuple[float, float], count: int = 17) -> list[tuple[float, float]]:
    return [tuple(point) for point in np.linspace(start, end, count).tolist()]


def crossings(sightings: Sightings, end_s: float = 1000.0, **values: Any) -> list[Crossing]:
    return find_crossings(sightings, {1: (0.0, end_s), 2: (0.0, end_s)}, SIZE, params(**values))


def directions(sightings: Sightings, **values: Any) -> list[str]:
    return [crossing.direction for crossing in crossings(sightings, **values)]


def test_who_walks_over_a_line_is_counted_once_with_direction_and_time() -> None:
    leftwards = walk(along((0.7, 0.5), (0.3, 0.5)))
    assert crossings(leftwards, lines={"door": DOOR}) == [Crossing(1, "line", "door", "in", 1.0)]
    rightwards = walk(along((0.3, 0.5), (0.7, 0.5)))
    assert directions(rightwards, lines={"door": DOOR}) == ["out"]
    assert directions(rightwards, lines={"door": DOOR[::-1]}) == ["in"]


def test_over_a_line_drawn_from_left_to_right_in_is_towards_the_camera() -> None:
    assert directions(walk(along((0.5, 0.3), (0.5, 0.9))), lines={"door": ((0.2, 0.6), (0.8, 0.6))}) == ["in"]


def test_a_line_ends_where_it_ends() -> None:
    for y in (0.1, 0.9):
        assert directions(walk(along((0.7, y), (0.3, y))), lines={"door": DOOR}) == []


def test_around_the_end_of_a_line_and_back_over_it_is_one_crossing() -> None:
    around = along((0.7, 0.9), (0.3, 0.9)) + along((0.3, 0.9), (0.3, 0.5)) + along((0.3, 0.5), (0.7, 0.5))
    assert directions(walk(around), lines={"door": DOOR}) == ["out"]


def test_standing_on_a_line_is_no_crossing_however_much_the_box_shakes() -> None:
    shaking = [(0.5 + 0.004 * (-1) ** number, 0.5) for number in range(40)]
    assert (
        directions(
            walk(along((0.7, 0.5), (0.505, 0.5)) + shaking + along((0.505, 0.5), (0.7, 0.5))), lines={"door": DOOR}
        )
        == []
    )
    through = along((0.7, 0.5), (0.505, 0.5)) + shaking + along((0.495, 0.5), (0.3, 0.5))
    assert directions(walk(through), lines={"door": DOOR}) == ["in"]


def test_there_and_back_is_a_crossing_each_way() -> None:
    there = along((0.7, 0.5), (0.3, 0.5))
    assert directions(walk(there + there[::-1]), lines={"door": DOOR}) == ["in", "out"]


def test_who_vanishes_in_the_door_has_gone_through() -> None:
    assert directions(walk(along((0.7, 0.5), (0.498, 0.5))), lines={"door": DOOR}) == ["in"]
    assert directions(walk(along((0.502, 0.5), (0.7, 0.5))), lines={"door": DOOR}) == []


def test_somebody_hidden_for_long_has_crossed_nothing_meanwhile() -> None:
    before, after = walk(along((0.8, 0.5), (0.6, 0.5))), along((0.4, 0.5), (0.2, 0.5))
    assert directions(joined(before, walk(after, start_s=3.0)), lines={"door": DOOR}) == ["in"]
    assert directions(joined(before, walk(after, start_s=30.0)), lines={"door": DOOR}) == []


def test_a_newcomer_does_not_go_on_with_the_way_of_somebody_else() -> None:
    """Where one id is taken by a newcomer, a person leaves on one side, and another one who comes on the other side
    has crossed the line."""
    first, second = along((0.8, 0.5), (0.6, 0.5)), along((0.4, 0.5), (0.2, 0.5))
    assert directions(joined(walk(first), walk(second, person=2, start_s=2.2)), lines={"door": DOOR}) == []


def test_a_cut_ends_the_way() -> None:
    first, second = walk(along((0.8, 0.5), (0.6, 0.5))), walk(along((0.4, 0.5), (0.2, 0.5)), start_s=2.2)
    later = Sightings(second.persons, second.shots + 1, second.times_s, second.boxes)
    assert directions(joined(first, later), lines={"door": DOOR}) == []


@pytest.mark.parametrize("end", [(0.3, 0.5), (0.3, 0.65), (0.3, 0.2), (0.3, 0.8)])
def test_a_bent_line_is_crossed_once_also_at_its_corner(end: tuple[float, float]) -> None:
    bent = ((0.6, 0.1), (0.5, 0.5), (0.6, 0.9))
    assert directions(walk(along((0.7, 0.5), end, 9)), lines={"door": bent}) == ["in"]


PLACES = st.tuples(st.integers(0, 20), st.integers(0, 10)).map(lambda place: (place[0] / 20, place[1] / 10))


@given(st.lists(PLACES, min_size=2, max_size=12))
def test_who_returns_to_the_start_has_entered_a_closed_line_as_often_as_left_it(
    places: list[tuple[float, float]],
) -> None:
    way = np.array([*places, places[0]]) * SIZE
    square = np.array([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75), (0.25, 0.25)]) * SIZE
    assert signed_steps(way, square).sum() == 0


def test_the_visit_to_a_zone_has_beginning_end_and_length() -> None:
    way = walk(along((0.2, 0.5), (0.8, 0.5), 33))
    assert crossings(way, zones={"counter": ROOM}) == [
        Crossing(1, "zone", "counter", "in", 1.333),
        Crossing(1, "zone", "counter", "out", 2.667, True, 1.334),
    ]


def test_who_appears_and_vanishes_in_a_zone_has_crossed_nothing_but_stayed_there() -> None:
    entered, left = crossings(walk(along((0.45, 0.5), (0.55, 0.5))), zones={"counter": ROOM})
    assert (entered.direction, entered.time_s, entered.crossed, entered.dwell_s) == ("in", 0.0, False, None)
    assert (left.direction, left.time_s, left.crossed, left.dwell_s) == ("out", 2.0, False, 2.0)


def test_shaking_at_the_border_makes_no_visits() -> None:
    shaking = [(0.4 + 0.004 * (-1) ** number, 0.5) for number in range(40)]
    assert (
        crossings(walk(along((0.2, 0.5), (0.395, 0.5)) + shaking + along((0.395, 0.5), (0.2, 0.5))), zones={"a": ROOM})
        == []
    )
    entered, left = crossings(
        walk(along((0.2, 0.5), (0.395, 0.5)) + shaking + along((0.4, 0.5), (0.5, 0.5))), zones={"a": ROOM}
    )
    assert (entered.crossed, left.crossed) == (True, False)
    assert 1.9 < entered.time_s < 7.2


def test_time_away_is_no_time_in_the_zone() -> None:
    stay = along((0.45, 0.5), (0.55, 0.5))
    found = crossings(joined(walk(stay), walk(stay, start_s=60.0)), zones={"counter": ROOM})
    assert [crossing.dwell_s for crossing in found] == [None, 2.0, None, 2.0]


def entering(side: str) -> list[tuple[float, float]]:
    return {
        "left": along((0.02, 0.6), (0.3, 0.6)),
        "right": along((0.98, 0.6), (0.7, 0.6)),
        "top": along((0.5, 0.2), (0.5, 0.6)),
        "bottom": along((0.5, 1.0), (0.5, 0.7)),
    }[side]


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_side_is_where_somebody_comes_from_or_goes_to(side: str) -> None:
    way = entering(side)
    assert crossings(walk(way, start_s=5.0), sides=True) == [Crossing(1, "side", side, "in", 5.0)]
    assert crossings(walk(way[::-1], start_s=5.0), sides=True) == [Crossing(1, "side", side, "out", 7.0)]


def test_who_is_there_from_the_beginning_to_the_end_has_not_come_or_gone() -> None:
    way = entering("left") + entering("left")[::-1]
    assert crossings(walk(way), end_s=len(way) / FPS, sides=True) == []


def test_who_sits_at_the_side_or_appears_in_the_middle_has_not_come_in() -> None:
    assert crossings(walk([(0.02, 0.6)] * 40, start_s=5.0), sides=True) == []
    assert crossings(walk(along((0.4, 0.6), (0.6, 0.6)), start_s=5.0), sides=True) == []


def test_somebody_near_the_camera_who_leaves_to_the_left_does_not_leave_below() -> None:
    """The box touches the lower side all the time."""
    way = along((0.4, 1.0), (0.02, 1.0))
    assert [crossing.line for crossing in crossings(walk(way, start_s=5.0), sides=True)] == ["left"]


def test_the_point_that_counts_may_be_the_centre_of_the_box() -> None:
    way, line = walk(along((0.5, 0.5), (0.5, 0.65))), {"door": ((0.2, 0.6), (0.8, 0.6))}
    assert (directions(way, lines=line), directions(way, lines=line, anchor="centre")) == (["in"], [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lines": {"left": DOOR}}, "lines must not be called as a side"),
        ({"lines": {"a": DOOR}, "zones": {"a": ROOM}}, "lines must not be called"),
        ({"lines": {"a.b": DOOR}}, "names without dots"),
        ({"lines": {"a": DOOR[:1]}}, "at least 2 different points"),
        ({"lines": {"a": (DOOR[0], DOOR[0])}}, "at least 2 different points"),
        ({"zones": {"a": DOOR}}, "at least 3 different points"),
        ({"zones": {"a": ((0, 0), (640, 0), (640, 480))}}, "shares of the picture, 0 to 1"),
        ({"jitter": -1}, "jitter must be at least 0"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params(**values)


def test_nobody_crosses_nothing() -> None:
    nobody = Sightings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))
    assert crossings(nobody, lines={"door": DOOR}, zones={"a": ROOM}, sides=True) == []
    assert crossings(walk([(0.5, 0.5)]), lines={"door": DOOR}, sides=True) == []
