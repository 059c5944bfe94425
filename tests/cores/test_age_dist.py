import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.cores.age_dist import GROUPS, grouped, over_years, pooled


def around(age: int) -> np.ndarray:
    """Return a distribution over 101 years, half of it at `age` and a quarter 5 years before and after it."""
    shares = np.zeros((1, 101))
    shares[0, [age - 5, age, age + 5]] = 0.25, 0.5, 0.25
    return shares


def test_years_fall_into_groups_of_ten() -> None:
    (dist,) = grouped(around(34), np.array([34.0]), np.array([np.sqrt(12.5)]))
    assert_allclose(dist[[2, 3, 4]], [0.25, 0.75, 0])
    assert dist.sum() == pytest.approx(1)


def test_a_distribution_moves_and_widens_with_the_calibration() -> None:
    spread = np.sqrt(12.5)
    (moved,) = grouped(around(34), np.array([54.0]), np.array([spread]))
    assert_allclose(moved[[4, 5]], [0.25, 0.75])
    (widened,) = grouped(around(34), np.array([34.0]), np.array([3 * spread]))
    assert_allclose(widened[[1, 3, 4]], [0.25, 0.5, 0.25])


def test_no_year_is_lost_below_zero_or_beyond_the_last_group() -> None:
    dists = grouped(np.vstack([around(5), around(95)]), np.array([1.0, 118.0]), np.array([20.0, 20.0]))
    assert_allclose(dists.sum(axis=1), 1)
    assert dists[0, 0] == pytest.approx(0.75)
    assert dists[1, GROUPS - 1] == pytest.approx(0.75)


def test_a_face_without_an_age_has_no_distribution() -> None:
    assert np.isnan(grouped(around(30), np.array([np.nan]), np.array([5.0]))).all()


def test_better_faces_count_more_and_faces_without_a_distribution_do_not_count() -> None:
    dists = np.full((3, GROUPS), np.nan, np.float32)
    dists[:2] = np.eye(GROUPS)[[2, 3]]
    pooled_dist = pooled(dists, np.array([3.0, 1.0, 5.0]))
    assert pooled_dist is not None
    assert_array_equal(pooled_dist[2:4], [0.75, 0.25])
    assert pooled(dists[2:], np.array([5.0])) is None
    assert pooled(dists[:1], np.array([0.0])) is None


def test_the_share_of_a_class_is_spread_over_its_years() -> None:
    (years,) = over_years(np.array([[0.5, 0.3, 0.2]]), [(4, 7), (30, 30), (100, 200)])
    assert_allclose(years[4:8], 0.125)
    assert years[30] == pytest.approx(0.3)
    assert years.sum() == pytest.approx(1)
    assert years[100:].sum() == pytest.approx(0.2)
