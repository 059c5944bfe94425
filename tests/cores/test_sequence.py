from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.cores.likeness import Likeness, Likenesses
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.sequence import FilePerson, RecordedTime, Times, lay_out, merged, number_sequence

PARAMS = IdentityParams(
    max_gap_s=5,
    gap_motion=0.3,
    gap_motion_per_s=0.3,
    shot_max_s=120,
    max_absence_s=0,
    candidates=10,
    wrong_joins=0.05,
)
KNOWN: Likenesses = {kind: Likeness.from_distances((0.08, 0.6), (0.6, 0.5)) for kind in ("body", "face")}
S = 10**9


def at(degrees: float | None) -> NDArray[np.float32] | None:
    """Return a unit vector. The cosine distance of two depends on the angle between them."""
    return None if degrees is None else np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def person(
    file: int,
    start_s: float = 0,
    end_s: float = 60,
    *,
    x: float = 100,
    body: float | None = 0,
    face: float | None = None,
    known: int = 0,
    lost: bool = False,
    shot: int = 0,
) -> FilePerson:
    """Return a person who stands at `x` px from start_s to end_s of file number `file`. Each file lasts 60 s."""
    head = np.array([start_s, start_s + 0.125]) + file * 60
    tail = np.array([end_s - 0.25, end_s - 0.125]) + file * 60
    boxes = np.array([[x, 0, x + 60, 180]] * 2, np.float32)
    intervals = np.array([[file, file + 1]])
    head_ns, tail_ns = ((times * S).astype(np.int64) for times in (head, tail))
    seen = Tracklet(shot, intervals, head_ns, boxes, tail_ns, boxes, at(body), at(face), boxes[0], np.zeros(4))
    return FilePerson(file, known, None if lost else seen)


def numbers(*persons: FilePerson) -> list[int]:
    return number_sequence(persons, PARAMS, KNOWN).tolist()


def test_who_stands_at_the_border_is_the_same_person_in_the_next_file() -> None:
    assert numbers(person(0, x=100), person(0, x=400, body=20), person(1, x=400, body=20), person(1, x=100)) == [
        1,
        2,
        2,
        1,
    ]


def test_two_of_one_file_stay_apart_however_well_one_follows_the_other() -> None:
    assert numbers(person(0, 0, 57), person(0, 58, 60)) == [1, 2]
    # The second person does not displace the true successor of the first, because the two cannot be one person.
    assert numbers(person(0, 0, 57, body=0), person(0, 58, 60, body=10), person(1, body=-25)) == [1, 2, 1]


@pytest.mark.parametrize(("begins_s", "joined"), [(4, True), (6, False)])
def test_a_gap_may_be_as_long_as_inside_a_shot(begins_s: float, joined: bool) -> None:
    # An angle of 33 degrees is a distance of .16, which is enough over a gap and too much over shots.
    assert numbers(person(0, body=0), person(1, begins_s, body=33)) == [1, 1 if joined else 2]


def test_nobody_walks_on_over_a_cut_or_a_missing_file() -> None:
    assert numbers(person(0, body=0), person(1, body=33, shot=1)) == [1, 2]


def test_who_comes_back_later_is_known_by_the_face_and_over_a_cut_by_the_body() -> None:
    assert numbers(person(0), person(1, 30, 60, x=500)) == [1, 2]  # as inside one file
    assert numbers(person(0, face=0), person(3, x=500, face=10)) == [1, 1]
    assert numbers(person(0), person(1, 30, 60, x=500, shot=1)) == [1, 1]
    assert numbers(person(0), person(3, x=500, shot=1)) == [1, 2]  # too late


def test_numbers_count_by_first_appearance_whatever_was_given_before() -> None:
    assert numbers(person(0, known=7), person(0, body=90, known=2), person(1, body=90), person(1, body=45)) == [
        1,
        2,
        2,
        3,
    ]


def test_persons_of_a_file_of_which_nothing_was_ever_known_stand_alone() -> None:
    assert numbers(person(0, lost=True), person(0, lost=True), person(1), person(2)) == [1, 2, 3, 3]


def test_where_a_file_is_lost_its_numbers_stay_and_new_ones_go_on_above() -> None:
    found = numbers(
        person(0, known=1, lost=True),
        person(0, known=2, lost=True),
        person(1, known=2),
        person(1, known=3, body=90),
        person(2, body=0),
        person(2, body=90),
        person(2, body=45),
    )
    assert found == [1, 2, 2, 3, 2, 3, 4]


def test_whoever_was_one_with_a_lost_person_stays_that() -> None:
    found = numbers(
        person(0, known=1, lost=True),
        person(1, known=1, body=0),
        person(2, 30, known=1, body=90),  # not similar, but joined with the first through a lost person
        person(3, 30, body=45, shot=1),
    )
    assert found == [1, 1, 1, 1]


@pytest.mark.parametrize(("is_cut_off", "people"), [(True, 1), (False, 2)])
def test_whom_the_edge_cuts_off_where_a_file_ends_may_be_taller_in_the_next(is_cut_off: bool, people: int) -> None:
    shown, whole = person(0), person(1, 0.5)
    assert shown.summary is not None
    lower_part = shown.summary.tail_boxes - np.array([0, 0, 0, 100], np.float32)
    summary = replace(shown.summary, tail_boxes=lower_part, cut_off=(False, is_cut_off))
    assert len({*numbers(replace(shown, summary=summary), whole)}) == people


def test_two_who_are_lost_are_never_joined() -> None:
    alike = [person(1, known=1), person(2, known=2)]
    assert numbers(*alike) == [1, 1]
    assert numbers(person(0, known=1, lost=True), person(0, known=2, lost=True), *alike) == [1, 2, 1, 2]


def test_parts_of_one_person_begin_as_the_first_end_as_the_last_and_look_like_all() -> None:
    early, late = person(0, 0, 10, x=10, body=0).summary, person(0, 20, 30, x=90, body=90).summary
    assert early is not None
    assert late is not None
    early, late = replace(early, cut_off=(True, False)), replace(late, cut_off=(False, True))
    one = merged([late, early], [1, 3], [1, 1])
    assert one.cut_off == (True, True)
    assert one.head_boxes.tolist() == early.head_boxes.tolist()
    assert one.tail_ns.tolist() == late.tail_ns.tolist()
    assert one.body is not None
    np.testing.assert_allclose(one.body, np.array([3, 1]) / np.sqrt(10), atol=1e-6)
    assert one.face is None


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 15.0, 45.0, 90.0]), st.booleans()), max_size=10))
def test_nobody_is_two_persons_of_one_file_and_numbers_are_dense(drawn: Sequence[tuple[int, float, bool]]) -> None:
    persons = [
        person(file, x=60.0 * place, body=body, face=body if face else None)
        for place, (file, body, face) in enumerate(sorted(drawn))
    ]
    numbers = number_sequence(persons, PARAMS, KNOWN)
    assert len({(one.file, number) for one, number in zip(persons, numbers, strict=True)}) == len(persons)
    firsts = [number for place, number in enumerate(numbers.tolist()) if number not in numbers[:place]]
    assert firsts == list(range(1, len(firsts) + 1))


# --- times -----------------------------------------------------------------------------------------------------------

MINUTE = 60_000_000


def spans(*each: tuple[float | None, float | None]) -> list[RecordedTime]:
    """Return files from (recorded_s, duration_s) of each."""
    return [
        RecordedTime(None, None if at is None else round(at * 1e6), None if long is None else round(long * 1e6))
        for at, long in each
    ]


@pytest.mark.parametrize(
    ("each", "starts_s", "times"),
    [
        ([(None, 60), (None, 60), (None, 60)], [0, 60, 120], Times.END_TO_END),
        ([(1000, 60), (1060, 60), (1300, 60)], [0, 60, 300], Times.RECORDED),
        ([(1000, 60.4), (1060, 60.4), (1121, 60)], [0, 60.4, 120.8], Times.RECORDED),  # whole seconds, so no gap
        ([(1060, 60), (1120, 60), (1125, 5)], [0, 60, 120], Times.END_TO_END),  # each states its end time
        ([(1000, 60), (1000, 60), (1000, 60)], [0, 60, 120], Times.END_TO_END),  # one time for all
        ([(1000, 60), (None, 60), (1120, 60)], [0, 60, 120], Times.END_TO_END),
        ([(1000, 60), (None, None), (1120, 60)], [0, 0, 120], Times.RECORDED),  # a file that cannot be processed
        ([(None, 30), (None, None), (None, 60)], [0, 30, 90], Times.END_TO_END),  # counts as long as the longest
        ([], [], Times.END_TO_END),
    ],
)
def test_when_files_begin(each: list[tuple[float | None, float | None]], starts_s: list[float], times: Times) -> None:
    starts_us, how = lay_out(spans(*each))
    assert (starts_us / 1e6).tolist() == starts_s
    assert how == times


def test_what_a_list_says_goes_before_what_containers_say() -> None:
    files = [RecordedTime(listed, recorded, MINUTE) for listed, recorded in ((0, 0), (3 * MINUTE, 2 * MINUTE))]
    assert lay_out(files)[0].tolist() == [0, 3 * MINUTE]
    assert lay_out(files)[1] == Times.LISTED


@given(st.lists(st.tuples(st.none() | st.integers(0, 500), st.none() | st.integers(1, 100)), max_size=8))
def test_no_file_begins_before_the_one_ahead_has_ended(each: list[tuple[float | None, float | None]]) -> None:
    files = spans(*each)
    starts_us, _ = lay_out(files)
    there = [
        (start, start + (file.duration_us or 0))
        for start, file in zip(starts_us.tolist(), files, strict=True)
        if file.duration_us
    ]
    assert all(before[1] <= after[0] for before, after in pairwise(there))
