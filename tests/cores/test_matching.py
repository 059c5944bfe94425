"""Persons of two results are matched by the boxes that they share, however each result numbers them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores import matching
from pipeline.cores.matching import Matching, PersonBoxes, PersonMatch, match_persons

Row = tuple[int, int, float]
"""Frame, person, and left edge of a box of 10 x 20 px."""


def result(rows: list[Row]) -> PersonBoxes:
    rows = sorted(rows)
    frames, persons, lefts = (np.array([row[column] for row in rows]) for column in range(3))
    lefts = lefts.astype(float)
    boxes = np.stack([lefts, np.zeros(len(rows)), lefts + 10, np.full(len(rows), 20.0)], axis=1)
    return PersonBoxes(frames.astype(np.int64), persons.astype(np.int64), boxes.reshape(-1, 4))


def walk(person: int, frames: range, left: float) -> list[Row]:
    return [(frame, person, left) for frame in frames]


def test_ids_may_differ() -> None:
    a = walk(1, range(10), 0) + walk(2, range(5), 100)
    b = walk(2, range(10), 1) + walk(1, range(5), 99)
    found = match_persons(result(a), result(b))
    assert found == Matching((PersonMatch(1, 2, 10), PersonMatch(2, 1, 5)), (), (), (), (), shared=15, moved=0)


def test_a_person_is_split_merged_gone_or_new() -> None:
    whole, half_1, half_2 = walk(1, range(10), 0), walk(1, range(6), 0), walk(7, range(6, 10), 0)
    alone_a, alone_b = walk(3, range(10), 300), walk(4, range(10), 600)
    split = match_persons(result(whole + alone_a), result(half_1 + half_2 + alone_b))
    assert split == Matching((PersonMatch(1, 1, 6),), (3,), (4,), (), ((1, 7),), shared=10, moved=4)
    merged = match_persons(result(half_1 + half_2 + alone_b), result(whole + alone_a))
    assert merged == Matching((PersonMatch(1, 1, 6),), (4,), (3,), ((7, 1),), (), shared=10, moved=4)


def test_an_exchange_of_ids_in_the_middle_moves_boxes() -> None:
    a = walk(1, range(10), 0) + walk(2, range(10), 100)
    b = walk(1, range(7), 0) + walk(2, range(7, 10), 0) + walk(2, range(7), 100) + walk(1, range(7, 10), 100)
    found = match_persons(result(a), result(b))
    assert found.matches == (PersonMatch(1, 1, 7), PersonMatch(2, 2, 7))
    assert (found.shared, found.moved) == (20, 6)
    assert found.split == found.merged == found.gone == found.new == ()


@pytest.mark.parametrize(("shift", "is_one"), [(3.3, True), (3.4, False)])  # IoU 6.7/13.3 and 6.6/13.4
def test_boxes_are_one_if_they_overlap_by_half(shift: float, is_one: bool) -> None:
    found = match_persons(result(walk(1, range(3), 0)), result(walk(1, range(3), shift)))
    assert bool(found.matches) == is_one
    assert bool(found.gone) != is_one


def test_a_box_is_one_with_the_nearest_box_alone() -> None:
    crowd = walk(1, range(5), 0) + walk(2, range(5), 2)
    found = match_persons(result(crowd), result(walk(1, range(5), 0.2) + walk(2, range(5), 1.9)))
    assert (found.shared, found.moved) == (10, 0)


def test_a_box_whose_only_neighbour_is_another_box_is_alone() -> None:
    found = match_persons(result(walk(1, range(5), 0) + walk(2, range(5), 2)), result(walk(1, range(5), 0)))
    assert found == Matching((PersonMatch(1, 1, 5),), (2,), (), (), (), shared=5, moved=0)


def test_results_without_boxes_have_nothing_in_common() -> None:
    some = result(walk(1, range(3), 0))
    assert match_persons(result([]), result([])) == Matching((), (), (), (), (), 0, 0)
    assert match_persons(some, result([])).gone == (1,)
    assert match_persons(result([]), some).new == (1,)


rows = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(0, 8).map(float)), max_size=40, unique=True)


@given(rows, rows)
def test_the_size_of_a_block_does_not_matter_and_every_person_is_in_one_place(a: list[Row], b: list[Row]) -> None:
    whole = match_persons(result(a), result(b))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "PAIRS_AT_ONCE", 3)
        assert match_persons(result(a), result(b)) == whole
    of_a = [match.a for match in whole.matches] + list(whole.gone) + [person for person, _ in whole.merged]
    of_b = [match.b for match in whole.matches] + list(whole.new) + [person for _, person in whole.split]
    assert sorted(of_a) == sorted({person for _, person, _ in a})
    assert sorted(of_b) == sorted({person for _, person, _ in b})
    assert whole.shared - whole.moved == sum(match.frames for match in whole.matches)
