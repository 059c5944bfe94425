import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pipeline.cores.likeness import MIN_DISTANCE, DistanceStats, Likeness, log_distance, steadiness

KNOWN = Likeness.from_distances((0.1, 0.5), (0.4, 0.3))


@pytest.mark.parametrize("distance", [0.1, 0.2, 0.3, 0.4])
def test_the_ratio_is_that_of_two_normal_distributions(distance: float) -> None:
    same, other = norm.logpdf(np.log(distance), np.log([0.1, 0.4]), [0.5, 0.3])
    expected = same - other
    assert KNOWN.ratio(np.array([1 - distance]))[0] == pytest.approx(expected, abs=0.001)


def test_with_equal_deviations_nothing_is_known_halfway() -> None:
    assert Likeness.from_distances((0.1, 0.4), (0.4, 0.4)).ratio(np.array([1 - 0.2]))[0] == 0


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(0.1, 1), st.floats(0.1, 1))
def test_more_alike_is_never_less_likely(similarities: list[float], same_std: float, other_std: float) -> None:
    ratios = Likeness.from_distances((0.1, same_std), (0.4, other_std)).ratio(np.sort(similarities))
    assert (np.diff(ratios) >= 0).all()


def test_what_is_unknown_stays_unknown() -> None:
    assert np.isnan(KNOWN.ratio(np.array([np.nan]))).all()


def test_an_embedder_that_tells_nobody_apart_joins_nobody() -> None:
    useless = Likeness(DistanceStats(-1.0, 0.3), DistanceStats(-2.0, 0.3))
    assert useless.ratio(np.array([0.0, 0.99])).tolist() == [0, 0]


def test_what_stands_still_is_as_near_as_a_person_can_be() -> None:
    assert log_distance(np.array([1.0, 1 - MIN_DISTANCE])) == pytest.approx(np.log(MIN_DISTANCE))


@pytest.mark.parametrize(("count", "weight"), [(0, 0.0), (10, 0.5), (990, 0.99)])
def test_a_prior_counts_as_ten_tracklets(count: int, weight: float) -> None:
    drawn = DistanceStats(-1.0, 0.2, count).towards(DistanceStats(-2.0, 0.2))
    assert drawn.mean == pytest.approx(-2 + weight)
    assert drawn.std == pytest.approx((0.04 + weight * (1 - weight)) ** 0.5, abs=0.001)
    assert drawn.count == count


def test_the_others_who_are_seen_beside_somebody_are_not_counted_against_them_twice() -> None:
    """With nine others who are seen together, one in ten pairs is the same person, so somebody is surely among them."""
    against = KNOWN.odds_against(np.array([0, 4, 9, 99]))
    assert np.exp(against) == pytest.approx([9.0, 5.0, 2.5, 2.5], rel=0.01)


def test_the_share_is_that_of_the_pairs_that_are_alike() -> None:
    random = np.random.default_rng(1)
    logs = np.concatenate([random.normal(np.log(0.1), 0.4, 300), random.normal(np.log(0.4), 0.4, 1700)])
    found = Likeness.from_distances((0.1, 0.4), (0.4, 0.4)).with_share(1 - np.exp(logs), np.ones(2000, np.int64))
    assert found.share == pytest.approx(0.15, abs=0.02)


def test_without_pairs_one_in_ten_is_taken_to_be_one_person() -> None:
    assert KNOWN.with_share(np.zeros(0), np.zeros(0, np.int64)).share == pytest.approx(0.1)


def test_steadiness_compares_the_first_third_with_the_last() -> None:
    right, up = [1.0, 0.0], [0.0, 1.0]
    assert steadiness(np.array([right, up, right], np.float32)) == 1
    assert steadiness(np.array([right, right, right, up, up, up], np.float32)) == 0
    assert np.isnan(steadiness(np.array([right, right], np.float32)))
