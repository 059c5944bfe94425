"""The estimate of a person is robust, states its uncertainty, and is absent with too little evidence."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from pipeline.config import load
from pipeline.cores.vote import WHY_NOT, PersonParams, Vote, five_year_group, huber_location, vote

PARAMS = load().person
EAGER = replace(PARAMS, min_faces=1, min_weight=0.0, max_age_interval=1e3)


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
    """Return the vote of faces, each as (age, its standard error, probability of a woman, quality)."""
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
    assert width(many) + 0.5 < width(judge([40.0] * 3, stds=7.0)) < width(judge([40.0], qualities=0.6, params=EAGER))


def test_disagreement_widens_the_interval() -> None:
    agreed, apart, further = (
        width(judge(ages, params=EAGER)) for ages in ([40, 40, 40, 40], [30, 50, 30, 50], [20, 60, 20, 60])
    )
    assert agreed < apart < further


def test_an_interval_of_two_camps_reaches_both() -> None:
    estimate = judge([20] * 6 + [60] * 6, params=EAGER)
    assert estimate.age_low is not None
    assert estimate.age_high is not None
    assert estimate.age_low < 20
    assert estimate.age_high > 60


def test_one_outlier_among_many_hardly_widens_the_interval() -> None:
    assert width(judge([40.0] * 30 + [95.0])) < width(judge([40.0] * 30)) + 1


def test_an_interval_stays_within_a_life() -> None:
    young, old = judge([1.0, 2.0], params=EAGER), judge([109.0, 108.0], params=EAGER)
    assert young.age_low == 0
    assert old.age_high == 110


def bodies(count: int, age: float = 40.0, prob: float = 0.9) -> np.ndarray:
    return np.tile([0.7, age, 8.6, prob], (count, 1))


def test_bodies_speak_for_a_person_without_faces_and_say_so() -> None:
    estimate = judge([]).or_bodies(bodies(6), PARAMS)
    assert (estimate.age, estimate.gender, estimate.estimated_from) == (40.0, "F", "body")
    faces = judge([40.0] * 6, stds=5.0)
    assert faces.estimated_from == "face"
    assert width(estimate) > width(faces) + 5


def test_bodies_do_not_speak_against_faces_and_abstain_on_their_own_terms() -> None:
    faces = judge([20.0, 20.0])
    assert faces.or_bodies(bodies(50), PARAMS) == faces
    unsure = judge([20.0, 70.0, 45.0], stds=20.0)
    assert unsure.age_why_not == "unsure"
    assert unsure.or_bodies(bodies(50), PARAMS) == unsure
    assert judge([20.0]).or_bodies(bodies(50), PARAMS).estimated_from == "body"
    assert judge([]).or_bodies(bodies(PARAMS.min_bodies - 1), PARAMS) == nothing("no face judged")
    doubtful = judge([]).or_bodies(bodies(6, prob=0.72), replace(PARAMS, correlation=0.95))
    assert (doubtful.gender, doubtful.gender_why_not, doubtful.age) == ("N", "unsure", 40.0)


def test_in_a_picture_one_body_is_enough() -> None:
    assert judge([]).or_bodies(bodies(1), PARAMS.with_analysed(1)).estimated_from == "body"
    assert judge([]).or_bodies(bodies(1), PARAMS).estimated_from is None


def nothing(why_not: str) -> Vote:
    return Vote(
        age=None,
        age_low=None,
        age_high=None,
        gender="N",
        female_prob=None,
        age_why_not=why_not,  # pyright: ignore[reportArgumentType]
        gender_why_not=why_not,  # pyright: ignore[reportArgumentType]
        age_dist=None,
        age_group=None,
        estimated_from=None,
    )


def test_an_interval_leans_as_those_of_the_faces_do() -> None:
    ages, stds, probs, qualities = (np.full(3, value, np.float32) for value in (40.0, 5.0, 0.9, 0.8))
    even = vote(ages, stds, probs, qualities, PARAMS)
    leaning = vote(ages, stds, probs, qualities, PARAMS, age_leans=np.array([0.5, 0.5, 0.5], np.float32))
    assert (leaning.age, width(leaning)) == (even.age, pytest.approx(width(even), abs=0.11))
    assert leaning.age_high is not None
    assert leaning.age_high - 40 == pytest.approx(0.75 * width(even), abs=0.06)
    some = vote(ages, stds, probs, qualities, PARAMS, age_leans=np.array([1.0, np.nan, 0.5], np.float32))
    assert some == leaning  # a face without a lean has a symmetric interval


def test_the_distribution_of_a_person_is_that_of_its_faces_by_weight() -> None:
    dists = np.zeros((3, 12), np.float32)
    dists[[0, 1, 2], [3, 3, 4]] = 1
    ages, stds, probs = (np.full(3, value, np.float32) for value in (39.0, 5.0, 0.9))
    qualities = np.array([0.2, 0.2, 0.4], np.float32)
    dist = vote(ages, stds, probs, qualities, PARAMS, dists).age_dist
    assert dist is not None
    assert dist[3:5] == (0.5, 0.5)
    assert vote(ages, stds, probs, qualities, replace(PARAMS, min_faces=4), dists).age_dist is None
    assert vote(ages, stds, probs, qualities, PARAMS).age_dist is None


@pytest.mark.parametrize(
    ("groups", "age", "group"),
    [
        *(("adience", 1, "0-2"), ("adience", 23, "25-32"), ("adience", 99, "60+")),
        *(("18-64,65+", 17.9, None), ("18-64,65+", 64.9, "18-64"), (None, 30, None)),
    ],
)
def test_an_age_is_named_by_the_groups_of_the_configuration(groups: str | None, age: float, group: str | None) -> None:
    assert judge([age] * 3, params=replace(EAGER, age_groups=groups)).age_group == group


def test_too_few_faces_say_nothing() -> None:
    assert judge([30.0] * (PARAMS.min_faces - 1), qualities=1.0) == nothing("too few faces")
    assert judge([30.0] * 5, qualities=0.0, params=EAGER) == nothing("too few faces")


def test_without_a_judged_face_or_an_estimator_nothing_is_said() -> None:
    assert judge([]) == judge([], params=EAGER) == nothing("no face judged")
    assert judge([np.nan] * 5, female=np.nan) == nothing("not asked")


def test_in_a_picture_one_face_is_enough_however_poor_and_elsewhere_it_is_not() -> None:
    picture, shot = PARAMS.with_analysed(1), PARAMS.with_analysed(2)
    assert judge([30.0], qualities=0.3, stds=5, params=picture).age == 30.0
    assert judge([30.0], qualities=0.3, stds=5, params=shot) == nothing("too few faces")
    assert judge([30.0] * 2, qualities=0.1, stds=5, params=shot) == nothing("too few faces")


def test_an_age_that_could_be_nearly_any_is_not_told() -> None:
    wide = judge([24.0] * 20, stds=30.0)
    assert (wide.age, wide.age_low, wide.age_high, wide.age_why_not) == (None, None, None, "unsure")
    assert wide.gender == "F"
    half = PARAMS.max_age_interval / 2 / 1.2816
    at_most, beyond = (judge([50.0] * 10_000, stds=std / PARAMS.correlation**0.5) for std in (half - 0.1, half + 0.1))
    assert (at_most.age, at_most.age_why_not) == (50.0, None)
    assert (beyond.age, beyond.age_why_not) == (None, "unsure")
    # At the age of 5, an interval of 60 years is cut off at 0, but is no surer for that.
    assert judge([5.0] * 20, stds=25.0).age is None


def test_what_the_estimator_is_unsure_of_weighs_next_to_nothing() -> None:
    sure, unsure = [30.0, 30.0], [70.0] * 4
    mixed = judge(sure + unsure, stds=[3.0] * 2 + [30.0] * 4, female=[0.95] * 2 + [0.05] * 4)
    assert mixed.age is not None
    assert mixed.age < 32
    assert mixed.gender == "F"
    assert judge(sure + unsure, stds=3.0, female=[0.95] * 2 + [0.05] * 4, params=EAGER).gender == "M"


def test_a_gender_is_less_sure_where_the_age_could_be_nearly_any() -> None:
    sure, less, least = (judge([40.0] * 5, stds=std, female=0.95).female_prob for std in (12.0, 18.0, 36.0))
    assert sure is not None
    assert less is not None
    assert least is not None
    assert sure == judge([40.0] * 5, stds=1.0, female=0.95).female_prob
    odds, odds_less, odds_least = (np.log(prob / (1 - prob)) for prob in (sure, less, least))
    assert odds == pytest.approx(1.5 * odds_less, rel=0.02)
    assert odds == pytest.approx(3 * odds_least, rel=0.02)


def test_one_face_taken_for_a_babys_does_not_outvote_three_of_an_adult() -> None:
    age = judge([1.0, 30.0, 30.0, 30.0], stds=[0.4, 6.0, 6.0, 6.0]).age
    assert age is not None
    assert age > 25


def test_every_reason_is_explained() -> None:
    said = [judge([]), judge([np.nan]), judge([30.0]), judge([30.0] * 9, stds=30.0, female=0.5)]
    reasons = {reason for one in said for reason in (one.age_why_not, one.gender_why_not)}
    assert reasons == set(WHY_NOT)


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
    assert (tie.gender, tie.gender_why_not) == ("N", "unsure")
    assert tie.female_prob == 0.5
    assert judge([30, 30], female=0.5).gender == "N"


def test_one_overconfident_face_does_not_outvote_four_others() -> None:
    assert judge([30] * 5, female=[0.9999, 0.1, 0.1, 0.1, 0.1]).gender == "M"


def test_many_faces_make_a_gender_surer_only_up_to_a_point() -> None:
    few, many, crowd = (judge([30] * n, female=0.7).female_prob for n in (2, 20, 20_000))
    assert few is not None
    assert many is not None
    assert crowd is not None
    assert 0.7 < few < many <= crowd < 0.74


def test_a_gender_is_named_from_the_stated_probability_on() -> None:
    sure = replace(EAGER, min_gender_prob=0.7)
    assert judge([30], female=0.7, qualities=1.0, params=sure).gender == "F"
    assert judge([30], female=0.3, qualities=1.0, params=sure).gender == "M"
    assert judge([30], female=0.69, qualities=1.0, params=sure).gender == "N"
    assert judge([30], female=0.31, qualities=1.0, params=sure).gender == "N"


@pytest.mark.parametrize(
    ("age", "actual", "low", "high"),
    [
        (24.1, 24, 20, 25),  # `ceil` would make it 25, and everyone older
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
    columns = five_year_group(age)
    assert (columns.age_actual, columns.age_min, columns.age_max) == (actual, low, high)


@pytest.mark.parametrize(
    ("knob", "value"), [("huber_years", 0.0), ("correlation", 1.2), ("max_age_interval", 0.0), ("min_gender_prob", 0.5)]
)
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


def test_restored_faces_speak_for_those_that_are_no_better_once_they_weigh_enough() -> None:
    qualities = np.array([0.5] * 4 + [0.5, 0.3, 0.9], np.float32)
    ages, stds, probs = (np.linspace(start, end, 7, dtype=np.float32) for start, end in ((20, 50), (6, 8), (0.6, 0.9)))
    dists, leans = np.eye(12, dtype=np.float32)[:7], np.linspace(-0.5, 0.5, 7, dtype=np.float32)
    restored = np.arange(len(qualities)) < 4

    def judged(faces: list[int], restored: NDArray[np.bool_] | None) -> Vote:
        years, errors, women, weights = (column[faces] for column in (ages, stds, probs, qualities))
        mask = None if restored is None else restored[faces]
        return vote(years, errors, women, weights, PARAMS, dists[faces], leans[faces], mask)

    everyone = list(range(7))
    assert judged(everyone, restored) == judged([0, 1, 2, 3, 6], None)
    assert judged(everyone[1:], restored) == judged(everyone[1:], None), "three halves are not enough"
    assert judged(everyone, restored & False) == judged(everyone, None)
    assert judged([], restored).age_why_not == "no face judged"
