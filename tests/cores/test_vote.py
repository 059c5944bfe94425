"""One estimate per person: robust, honest about what it does not know, silent below a stated amount of evidence."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from pipeline.config import load
from pipeline.cores.vote import PersonParams, Vote, age_columns, huber_location, vote

PARAMS = load().person
EAGER = replace(PARAMS, min_faces=1, min_weight=0.0)


def judge(
    ages: ArrayLike,
    *,
    stds: ArrayLike = 7.0,
    female: ArrayLike = 0.9,
    qualities: ArrayLike = 0.8,
    params: PersonParams = PARAMS,
) -> Vote:
    ages = np.asarray(ages, np.float32)
    std, prob, quality = (np.broadcast_to(np.asarray(x, np.float32), ages.shape) for x in (stds, female, qualities))
    return vote(ages, std, prob, quality, params)


def vote_on(faces: Sequence[tuple[float, float, float, float]]) -> Vote:
    """The vote of faces, each an age, its error, the probability of a woman and the quality."""
    ages, stds, probs, qualities = np.array(faces, np.float32).T
    return vote(ages, stds, probs, qualities, EAGER)


def width(estimate: Vote) -> float:
    assert estimate.age_low is not None
    assert estimate.age_high is not None
    return estimate.age_high - estimate.age_low


def test_faces_that_agree_give_their_age_and_gender() -> None:
    estimate = judge([31.2, 31.2, 31.2])
    assert estimate.age == 31.2
    assert estimate.gender == "F"


def test_a_face_of_better_quality_has_more_weight() -> None:
    assert judge([30, 34], qualities=[0.9, 0.3]).age == pytest.approx(31, abs=0.05)


def test_all_faces_count_not_only_the_first_five() -> None:
    late = judge([20] * 5 + [40] * 50).age
    assert late is not None
    assert late > 39


def test_one_outlier_moves_the_age_by_less_than_its_share_of_the_tolerated_error() -> None:
    steady = [29.0, 30.0, 31.0, 30.5, 29.5, 30.0, 30.0, 31.0, 29.0, 30.0]
    moved = judge([*steady, 90.0]).age
    assert moved is not None
    assert abs(moved - 30) <= PARAMS.huber_years / len(steady) + 0.1


def test_two_faces_decide_against_a_wild_third() -> None:
    age = judge([30, 32, 80]).age
    assert age is not None
    assert age < 34


def test_an_interval_never_shrinks_below_what_the_faces_share_of_the_error() -> None:
    many = judge([40.0] * 10_000, stds=7.0)
    floor = 2 * 1.2816 * 7.0 * PARAMS.correlation**0.5
    assert width(many) == pytest.approx(floor, abs=0.11)
    assert width(judge([40.0] * 3, stds=7.0)) > width(many) + 1


def test_disagreement_widens_the_interval() -> None:
    assert width(judge([40, 40, 40, 40])) < width(judge([30, 50, 30, 50])) < width(judge([20, 60, 20, 60]))


def test_an_interval_of_two_camps_reaches_both() -> None:
    estimate = judge([20] * 6 + [60] * 6)
    assert estimate.age_low is not None
    assert estimate.age_high is not None
    assert estimate.age_low < 20
    assert estimate.age_high > 60


def test_one_outlier_among_many_hardly_widens_the_interval() -> None:
    assert width(judge([40.0] * 30 + [95.0])) < width(judge([40.0] * 30)) + 1


def test_an_interval_stays_within_a_life() -> None:
    young, old = judge([1.0, 2.0]), judge([109.0, 108.0])
    assert young.age_low == 0
    assert old.age_high == 110


def test_too_few_faces_say_nothing() -> None:
    nothing = Vote(age=None, age_low=None, age_high=None, gender="N", female_prob=None)
    assert judge([30.0] * (PARAMS.min_faces - 1), qualities=1.0) == nothing
    assert judge([]) == nothing


def test_too_little_quality_says_nothing() -> None:
    poor = PARAMS.min_weight / 5 - 0.01
    assert judge([30.0] * 5, qualities=poor).age is None
    assert judge([30.0] * 5, qualities=poor).gender == "N"
    assert judge([30.0] * 5, qualities=poor + 0.02).age == 30.0


def test_faces_without_an_age_are_not_counted_as_evidence() -> None:
    estimate = judge([30.0, np.nan, np.nan], female=[0.9, 0.9, 0.9])
    assert estimate.age is None
    assert estimate.gender == "F"
    assert judge([30.0, 30.0], female=np.nan).gender == "N"


def test_a_tie_is_neither_woman_nor_man() -> None:
    tie = judge([30, 30], female=[0.9, 0.1])
    assert tie.gender == "N"
    assert tie.female_prob == 0.5
    assert judge([30, 30], female=0.5).gender == "N"


def test_one_overconfident_face_does_not_outvote_four_others() -> None:
    assert judge([30] * 5, female=[0.9999, 0.15, 0.15, 0.15, 0.15]).gender == "M"


def test_many_faces_make_a_gender_surer_only_up_to_a_point() -> None:
    few, many, crowd = (judge([30] * n, female=0.7).female_prob for n in (2, 20, 20_000))
    assert few is not None
    assert many is not None
    assert crowd is not None
    assert 0.7 < few < many <= crowd < 0.86


def test_a_gender_is_named_from_the_stated_probability_on() -> None:
    sure = replace(EAGER, min_gender_prob=0.7)
    assert judge([30], female=0.7, qualities=1.0, params=sure).gender == "F"
    assert judge([30], female=0.3, qualities=1.0, params=sure).gender == "M"
    assert judge([30], female=0.69, qualities=1.0, params=sure).gender == "N"
    assert judge([30], female=0.31, qualities=1.0, params=sure).gender == "N"


@pytest.mark.parametrize(
    ("age", "actual", "low", "high"),
    [
        (24.1, 24, 20, 25),  # `ceil` made it 25, and everyone older
        (24.4, 24, 20, 25),
        (24.5, 25, 25, 30),
        (0.0, 0, 0, 5),
        (0.4, 0, 0, 5),
        (110.0, 110, 110, 115),
        (None, -1, -1, -1),
    ],
)
def test_an_age_is_written_as_the_nearest_year_and_its_group_of_five(
    age: float | None, actual: int, low: int, high: int
) -> None:
    columns = age_columns(age)
    assert (columns.age_actual, columns.age_min, columns.age_max) == (actual, low, high)


@pytest.mark.parametrize(("knob", "value"), [("huber_years", 0.0), ("correlation", 1.2), ("min_gender_prob", 0.5)])
def test_senseless_parameters_are_refused(knob: str, value: float) -> None:
    with pytest.raises(ValueError, match=knob):
        replace(PARAMS, **{knob: value})


FACE = st.tuples(
    st.floats(0, 100, width=16),
    st.floats(1, 15, width=16),
    st.floats(0, 1, width=16),
    st.floats(0.0625, 1, width=16),
)


@given(st.lists(FACE, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_faces_does_not_matter(faces: list[tuple[float, float, float, float]], random: object) -> None:
    shuffled = faces.copy()
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    forward, back = (vote_on(order) for order in (faces, shuffled))
    assert forward == back


@given(st.lists(FACE, min_size=1, max_size=30))
def test_an_interval_contains_its_age_and_stays_within_a_life(faces: list[tuple[float, float, float, float]]) -> None:
    estimate = vote_on(faces)
    assert estimate.age is not None
    assert estimate.age_low is not None
    assert estimate.age_high is not None
    assert 0 <= estimate.age_low <= estimate.age <= estimate.age_high <= 110


@given(st.lists(FACE, min_size=1, max_size=15), st.integers(2, 4))
def test_more_faces_that_say_the_same_never_widen_the_interval(
    faces: list[tuple[float, float, float, float]], times: int
) -> None:
    once, again = (vote_on(many) for many in (faces, faces * times))
    assert width(again) <= width(once) + 0.11  # both ends are rounded


@given(st.lists(st.floats(20, 60, width=16), min_size=1, max_size=15), st.floats(0.125, 1, width=16))
def test_a_face_that_says_what_the_others_say_never_widens_the_interval(ages: list[float], quality: float) -> None:
    before = judge(ages, params=EAGER, qualities=0.125)
    assert before.age is not None
    after = judge([*ages, before.age], params=EAGER, qualities=[0.125] * len(ages) + [quality])
    assert width(after) <= width(before) + 0.21


@given(st.lists(st.tuples(st.floats(20, 60, width=16), st.floats(0.125, 1, width=16)), min_size=1, max_size=20))
def test_the_location_balances_the_bounded_pulls(faces: list[tuple[float, float]]) -> None:
    values, weights = np.array(faces).T
    centre = huber_location(values, weights, 5.0)
    assert values.min() - 1e-6 <= centre <= values.max() + 1e-6
    assert abs(weights @ np.clip(values - centre, -5, 5)) < 1e-3 * weights.sum()


@given(
    st.lists(st.floats(28, 32, width=16), min_size=3, max_size=20),
    st.floats(0, 100, width=16),
    st.floats(0, 100, width=16),
)
def test_wherever_an_outlier_lies_its_pull_is_bounded(ages: list[float], one: float, other: float) -> None:
    assume(one != other)
    a, b = (judge([*ages, outlier], params=EAGER).age for outlier in (one, other))
    assert a is not None
    assert b is not None
    assert abs(a - b) <= 2 * PARAMS.huber_years / (len(ages) - 1) + 0.11
