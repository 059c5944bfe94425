import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.cores.vote import Z_80, age_interval
from pipeline.models.attributes import Calibration
from pipeline.training.calibration import Raw, calibrate, hat_functions

KNOTS, STARTS = (0.0, 20.0, 50.0, 80.0), (0, 10, 30, 50)


def faces(number: int, size: int = 3000) -> Raw:
    """Return the outputs of a badly calibrated estimator.

    It makes old people 6 years too young. Its spread is half of its error. Its confidence in a gender is three times
    too high.
    """
    rng = np.random.default_rng(number)
    ages = rng.uniform(1, 80, size)
    errors = 1 + 0.08 * ages
    means = ages - np.clip(0.2 * (ages - 50), 0, 6) + rng.normal(0, errors)
    logits = rng.normal(0, 1.5, size)
    is_female = rng.random(size) < expit(logits)
    return Raw(np.clip(means, 0, 100), 0.5 * errors, 3 * logits, ages, is_female, np.ones(size))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(faces(0), KNOTS, STARTS)


def is_covered(calibration: Calibration, raw: Raw) -> NDArray[np.bool_]:
    stds, leans = calibration.age_error(raw.means, raw.spreads)
    low, high = age_interval(calibration.age(raw.means), Z_80 * stds, leans)
    return (low <= raw.ages) & (raw.ages <= high)


def test_four_of_five_are_covered_in_every_age_group(calibration: Calibration) -> None:
    fresh = faces(1, 20_000)
    covered = is_covered(calibration, fresh)
    assert covered.mean() == pytest.approx(0.8, abs=0.03)
    groups = np.searchsorted(STARTS, fresh.ages, side="right")
    for group in np.unique(groups):
        assert covered[groups == group].mean() == pytest.approx(0.8, abs=0.06)


def test_intervals_lean_to_the_ages_with_the_larger_errors_and_do_not_jump() -> None:
    """People who look younger than 35 may be much older."""
    rng = np.random.default_rng(0)
    means = rng.uniform(5, 75, 6000)
    errors = rng.normal(0, 5, 6000)
    ages = means + np.where((means < 35) & (errors > 0), 3 * errors, errors)
    ages = ages.clip(0, 90)
    fitted = calibrate(Raw(means, np.full(6000, 5.0), 0 * means, ages, ages > 40, np.ones(6000)), KNOTS, STARTS)
    asked = np.linspace(5, 70, 200)
    stds, leans = fitted.age_error(asked, np.full(200, 5.0))
    low, high = age_interval(fitted.age(asked), Z_80 * stds, leans)
    assert leans[asked.searchsorted(26)] > 0.1
    assert leans[asked.searchsorted(44)] < -0.1
    assert (np.diff(low) >= -1e-9).all()
    assert (np.diff(high) >= -1e-9).all()


def test_a_bias_is_taken_out(calibration: Calibration) -> None:
    fresh = faces(1, 20_000)
    raw, mended = (np.abs(ages - fresh.ages).mean() for ages in (fresh.means, calibration.age(fresh.means)))
    assert mended < raw - 0.05


def test_probabilities_of_a_woman_are_frequencies(calibration: Calibration) -> None:
    assert calibration.slope == pytest.approx(1 / 3, abs=0.03)
    assert calibration.offset == pytest.approx(0, abs=0.12)


def test_weights_count() -> None:
    raw = faces(0)
    wide = Raw(raw.means, raw.spreads, raw.logits, raw.ages, raw.is_female, np.where(raw.ages > 40, 1.0, 1e-6))
    fresh = faces(1)
    old = fresh.ages > 40
    fitted = calibrate(wide, KNOTS, STARTS)
    assert is_covered(fitted, fresh)[old].mean() == pytest.approx(0.8, abs=0.04)


def test_hats_interpolate_between_knots() -> None:
    values = np.array([-5.0, 0.0, 5.0, 20.0, 65.0, 99.0])
    heights = np.array([1.0, 3.0, -2.0, 7.0])
    assert_allclose(hat_functions(values, KNOTS) @ heights, np.interp(values, KNOTS, heights))
