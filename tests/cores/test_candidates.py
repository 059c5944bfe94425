from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import load
from pipeline.cores.candidates import (
    AT_BORDER,
    best_of_chains,
    chain,
    choose,
    crop_boxes,
    is_worth_a_crop,
    next_checks,
    rate,
    visibility,
)

PARAMS = replace(load().candidates, max_per_chain=2, look_score=0.6, max_per_cell=64)
NOBODY_LOOKED = float("nan")


def boxes(*corners: Sequence[float]) -> NDArray[np.float32]:
    return np.array(corners, np.float32).reshape(-1, 4)


def at(left: float, top: float = 100, width: float = 50, height: float = 100) -> list[float]:
    return [left, top, left + width, top + height]


def pick(chains: list[int], face_checks: Sequence[float], qualities: Sequence[float], **params: float) -> list[int]:
    chosen = choose(np.array(chains), np.array(face_checks), np.array(qualities), replace(PARAMS, **params))
    return chosen.tolist()


def test_two_people_who_stay_apart_are_two_chains() -> None:
    seen = boxes(at(0), at(300), at(5), at(295), at(10), at(290))
    assert chain(np.array([0, 0, 1, 1, 2, 2]), seen, 0.3).tolist() == [0, 1, 0, 1, 0, 1]


def test_order_within_a_frame_does_not_change_who_is_with_whom() -> None:
    seen = boxes(at(0), at(300), at(295), at(5))
    assert chain(np.array([0, 0, 1, 1]), seen, 0.3).tolist() == [0, 1, 1, 0]


def test_a_chain_takes_only_the_best_of_two_that_overlap_it() -> None:
    seen = boxes(at(0), at(20), at(4))
    assert chain(np.array([0, 1, 1]), seen, 0.3).tolist() == [0, 1, 0]


def test_of_two_chains_that_meet_only_the_nearer_goes_on() -> None:
    assert chain(np.array([0, 0, 1]), boxes(at(20), at(0), at(18)), 0.3).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("shift", "num_chains"), [(25, 1), (27, 2)])
def test_less_overlap_than_asked_for_breaks_a_chain(shift: float, num_chains: int) -> None:
    """The boxes are 50 px wide. Shifted by 25 px their IoU is 1/3, by 27 px it is .299."""
    assert len(set(chain(np.array([0, 1]), boxes(at(0), at(shift)), 0.3).tolist())) == num_chains


@pytest.mark.parametrize("frames", [[0, 2], [3, 3]])
def test_only_neighbouring_frames_are_linked(frames: list[int]) -> None:
    assert chain(np.array(frames), boxes(at(0), at(0)), 0.3).tolist() == [0, 1]


def test_an_empty_cell_has_no_chains_and_no_candidates() -> None:
    nothing = np.zeros(0)
    assert chain(np.zeros(0, np.int64), boxes(), 0.3).tolist() == []
    assert choose(np.zeros(0, np.int64), nothing, nothing, PARAMS).tolist() == []


def test_crops_that_show_a_face_win_over_those_of_higher_quality() -> None:
    assert pick([0, 0, 0, 0], [0, 0.7, 0.9, 0.8], [99, 10, 10, 10]) == [2, 3]


def test_without_a_face_the_one_crop_of_highest_quality_is_kept() -> None:
    assert pick([0, 0, 0], [0.59, 0.3, 0], [5, 7, 6]) == [1]
    assert pick([0, 0, 0], [NOBODY_LOOKED] * 3, [5, 7, 6]) == [1]


def test_a_face_check_just_below_the_bar_counts_when_it_rounds_up_to_it() -> None:
    assert pick([0, 0], [0.5996, 0.5994], [1, 9]) == [0]


def test_of_equals_the_earliest_is_kept() -> None:
    assert pick([0, 0, 0], [0.9] * 3, [5, 5, 5]) == [0, 1]
    assert pick([0, 0, 0], [NOBODY_LOOKED] * 3, [5, 5.0004, 5]) == [0]


def test_in_a_crowd_everyone_comes_before_anyones_second_and_faces_before_backs() -> None:
    chains = [0, 0, 1, 1, 2]
    face_checks = [0.9, 0.9, 0.8, 0.8, 0]
    qualities = [9, 8, 7, 6, 99]
    assert pick(chains, face_checks, qualities, max_per_cell=2) == [0, 2]
    assert pick(chains, face_checks, qualities, max_per_cell=3) == [0, 2, 4]
    assert pick(chains, face_checks, qualities, max_per_cell=4) == [0, 1, 2, 4]


SEEN = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([0.0, 0.5, 0.6, 0.9, NOBODY_LOOKED]), st.sampled_from([0.0, 1.0, 2.5, 7.0])
    ),
    max_size=12,
)


@given(SEEN, SEEN)
def test_a_crop_that_is_dropped_on_the_way_would_not_have_been_chosen_in_the_end(
    before: list[tuple[int, float, float]], after: list[tuple[int, float, float]]
) -> None:
    def best(seen: list[tuple[int, float, float]]) -> set[int]:
        chains, face_checks, qualities = np.array(seen, np.float64).reshape(-1, 3).T
        return set(best_of_chains(chains.astype(np.int64), face_checks, qualities, PARAMS).tolist())

    kept = best(before)
    assert best(before + after) <= kept | set(range(len(before), len(before) + len(after)))


@given(SEEN, SEEN)
def test_face_checks_that_are_not_made_change_nothing(
    before: list[tuple[int, float, float]], after: list[tuple[int, float, float]]
) -> None:
    answers, made = np.nan_to_num([score for _, score, _ in before + after]), np.full(len(before + after), np.nan)
    for seen in (before, before + after):
        chains, _, qualities = np.array(seen, np.float64).reshape(-1, 3).T
        while len(asked := next_checks(chains.astype(np.int64), made[: len(seen)], qualities, PARAMS)):
            assert np.isnan(made[asked]).all()
            made[asked] = answers[asked]
    chains = np.array([chain for chain, *_ in before + after], np.int64)
    qualities = np.array([quality for *_, quality in before + after], np.float64)
    assert choose(chains, made, qualities, PARAMS).tolist() == choose(chains, answers, qualities, PARAMS).tolist()


def test_a_crop_is_checked_only_as_long_as_it_can_be_chosen() -> None:
    chains, qualities = np.zeros(4, np.int64), np.array([5.0, 4, 3, 2])
    checks = np.full(4, np.nan)
    assert next_checks(chains, checks, qualities, PARAMS).tolist() == [0, 1]
    checks[[0, 1]] = 0.9, 0.2
    assert next_checks(chains, checks, qualities, PARAMS).tolist() == [2]
    checks[2] = 0.9
    assert next_checks(chains, checks, qualities, PARAMS).tolist() == []


def test_far_and_unsure_people_are_not_looked_at() -> None:
    seen = boxes(at(0, width=24), at(0, width=23.9), at(0, width=24))
    worth = is_worth_a_crop(seen, np.array([0.4, 0.9, 0.399]), replace(PARAMS, min_width_px=24, min_score=0.4))
    assert worth.tolist() == [True, False, False]


def test_a_crop_is_the_upper_part_with_a_margin_in_whole_pixels() -> None:
    params = replace(PARAMS, top_fraction=0.55, margin=0.08)
    crops = crop_boxes(boxes([100, 200, 200, 400]), 1000, 1000, params)
    assert crops.tolist() == [[92, 184, 208, 326]]


def test_the_crop_of_a_close_up_holds_the_whole_face() -> None:
    params = replace(PARAMS, top_fraction=0.55, margin=0)
    crops = crop_boxes(boxes([0, 0, 300, 200], [0, 0, 150, 200]), 1000, 1000, params)
    assert crops[:, 3].tolist() == [200, 150]


def test_a_crop_ends_at_the_border_of_the_picture() -> None:
    crops = crop_boxes(boxes([-10, -10, 90, 190], [950, 950, 1200, 1400]), 1000, 1000, PARAMS)
    assert crops[0, :2].tolist() == [0, 0]
    assert crops[1, 2:].tolist() == [1000, 1000]


def test_someone_behind_a_nearer_person_is_worth_less_and_the_nearer_one_is_not() -> None:
    people = boxes([100, 100, 200, 300], [150, 100, 250, 400])
    visible = visibility(people, crop_boxes(people, 1000, 1000, PARAMS), np.array([0.9, 0.9]), 1000, 1000)
    assert 0.3 < visible[0] < 0.6
    assert visible[1] == 1


def test_a_weak_box_hides_no_one() -> None:
    people = boxes([100, 100, 200, 300], [150, 100, 250, 400])
    crops = crop_boxes(people, 1000, 1000, PARAMS)
    assert visibility(people, crops, np.array([0.9, 0.39]), 1000, 1000).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([1, 100, 90, 300], AT_BORDER),
        ([100, 0, 190, 300], AT_BORDER),
        ([900, 100, 999, 300], AT_BORDER),
        ([100, 500, 190, 1000], 1),
    ],
)
def test_only_people_who_go_on_beside_or_above_the_picture_are_worth_less(box: list[float], expected: float) -> None:
    seen = boxes(box)
    assert visibility(seen, crop_boxes(seen, 1000, 1000, PARAMS), np.array([0.9]), 1000, 1000).tolist() == [expected]


def test_quality_grows_with_score_size_sharpness_and_visibility() -> None:
    small, large = boxes(at(0, width=30)), boxes(at(0, width=60))
    one = np.ones(1)
    base = rate(0.5 * one, small, 50 * one, 0.5 * one)
    assert rate(0.6 * one, small, 50 * one, 0.5 * one) > base
    assert rate(0.5 * one, large, 50 * one, 0.5 * one) > base
    assert rate(0.5 * one, small, 60 * one, 0.5 * one) > base
    assert rate(0.5 * one, small, 50 * one, 0.6 * one) > base
