from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import Detections
from pipeline.boxes import pairwise_iou
from pipeline.config import load
from pipeline.cores.suppress import suppress

IOU = load().track.duplicate_iou


def people(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_the_weaker_of_two_boxes_of_one_body_goes() -> None:
    assert suppress(people((0, 0, 50, 100, 0.6), (1, 0, 51, 100, 0.9)), IOU).tolist() == [1]


def test_two_people_side_by_side_stay() -> None:
    assert suppress(people((0, 0, 50, 100, 0.9), (20, 0, 70, 100, 0.8)), IOU).tolist() == [0, 1]


def test_half_a_body_inside_the_whole_one_goes() -> None:
    assert suppress(people((0, 0, 50, 100, 0.9), (0, 5, 30, 95, 0.8)), IOU).tolist() == [0]


@pytest.mark.parametrize("scores", [(0.5, 0.9), (0.9, 0.5)])
def test_half_a_sitter_and_all_of_him_are_one_person(scores: tuple[float, float]) -> None:
    # One box is the upper half of a man above a table, the other all of him, guessed through the table. Either may be
    # surer.
    half, whole = (680, 800, 740, 905), (678, 801, 738, 980)
    boxes = people((*half, scores[0]), (*whole, scores[1]))
    assert suppress(boxes, IOU).tolist() == [int(np.argmax(scores))]


def test_somebody_behind_whose_legs_are_hidden_stays() -> None:
    assert suppress(people((105, 94, 386, 359, 0.9), (237, 94, 407, 273, 0.8)), IOU).tolist() == [0, 1]


def test_somebody_far_behind_whose_head_is_at_the_same_height_stays() -> None:
    assert suppress(people((0, 0, 50, 120, 0.9), (10, 0, 40, 55, 0.8)), IOU).tolist() == [0, 1]


def test_a_box_around_two_people_goes_however_sure() -> None:
    left, right, both = (74, 137, 217, 358, 0.5), (176, 143, 397, 360, 0.6), (72, 138, 396, 360, 0.9)
    assert suppress(people(both, left, right), IOU).tolist() == [1, 2]
    assert suppress(people(both, left), IOU).tolist() == [0]  # no second box explains the right half
    assert suppress(people(both, (*left[:4], 0.3), (*right[:4], 0.3)), IOU).tolist() == [0]


def test_outspread_arms_and_the_body_between_them_are_one_person() -> None:
    assert suppress(people((0, 0, 100, 100, 0.7), (30, 2, 70, 100, 0.6)), IOU).tolist() == [0]
    assert suppress(people((0, 0, 100, 100, 0.7), (30, 2, 70, 100, 0.6), (32, 2, 72, 100, 0.5)), IOU).tolist() == [0]


def test_a_child_in_front_of_an_adult_stays() -> None:
    assert suppress(people((0, 0, 50, 100, 0.9), (10, 40, 40, 100, 0.8)), IOU).tolist() == [0, 1]


def test_a_surer_box_is_never_dropped_for_the_one_around_it() -> None:
    assert suppress(people((0, 0, 50, 100, 0.8), (0, 5, 30, 95, 0.9)), IOU).tolist() == [0, 1]


def test_what_is_dropped_drops_nothing_else() -> None:
    # The middle box is a duplicate of the first. The last box is a duplicate of the middle one only.
    boxes = people((0, 0, 100, 100, 0.9), (6, 0, 106, 100, 0.8), (12, 0, 112, 100, 0.7))
    assert suppress(boxes, 0.85).tolist() == [0, 2]


def test_equal_scores_are_told_apart_by_place_not_by_order() -> None:
    left, right = (0, 0, 50, 100, 0.9), (1, 0, 51, 100, 0.9)
    assert suppress(people(left, right), IOU).tolist() == [0]
    assert suppress(people(right, left), IOU).tolist() == [1]


@pytest.mark.parametrize("box", [(30, 0, 30, 100), (30, 50, 80, 50), (80, 0, 30, 100), (30, 0, float("nan"), 100)])
def test_a_box_without_width_or_height_goes_and_drops_nobody(box: tuple[float, float, float, float]) -> None:
    assert suppress(people((*box, 0.9), (20, 0, 70, 100, 0.8)), IOU).tolist() == [1]


def test_nobody_is_nobody() -> None:
    assert suppress(people(), IOU).tolist() == []


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(20, 60), st.integers(40, 90), st.integers(1, 9)),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("limit", [0.5, 0.85])
def test_no_two_that_stay_overlap_and_the_order_does_not_matter(
    limit: float, rows: list[tuple[int, int, int, int, int]], random: Random
) -> None:
    found = list(dict.fromkeys((x, y, x + w, y + h, score / 10) for x, y, w, h, score in rows))
    kept = suppress(people(*found), limit)
    boxes = people(*found).boxes[kept]
    overlaps = pairwise_iou(boxes, boxes) - np.eye(len(kept))
    assert overlaps.max(initial=0) < limit
    shuffled = found.copy()
    random.shuffle(shuffled)
    assert {found[i] for i in kept} == {shuffled[i] for i in suppress(people(*shuffled), limit)}
