"""Calibrate the raw outputs of an age and gender estimator on faces that it was not trained on."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.cores.vote import Z_80
from pipeline.models.attributes import SMALLEST_SPREAD, Calibration

COVERAGE = 0.80
"""The coverage to aim at, over all faces and within each age group."""
SOFTNESSES = (0.5, 0.2, 0.1)
"""Softness of an interval's edge while coverage is fitted, as a share of its half width. It shrinks step by step,
because a hard edge has no gradient."""
GROUP_WEIGHT, WHOLE_WEIGHT = 60.0, 500.0
SCALE_RIDGE, SHIFT_RIDGE, SIZE_RIDGE = 1e-4, 2e-3, 1e-5
YEARS = (0.0, 2.0, 4.5, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 37.0, 43.0, 50.0, 58.0, 66.0, 76.0, 100.0)
"""Ages between which the scale of the intervals is linear."""
YOUNG = 5.0
"""Years added to an age before its logarithm is taken. On that axis the scale bends little."""
SMALLEST_ERROR = 0.02
"""Smaller errors on the scale count as this."""
OPTIONS = {"maxiter": 500}


@dataclass(frozen=True, slots=True)
class Raw:
    """N judged faces. All arrays are (N,).

    means, spreads: raw ages and their standard deviations, in years.
    logits: of being female.
    ages, is_female: the labels.
    weights: weight of each face.
    """

    means: NDArray[np.float64]
    spreads: NDArray[np.float64]
    logits: NDArray[np.float64]
    ages: NDArray[np.float64]
    is_female: NDArray[np.bool_]
    weights: NDArray[np.float64]


def calibrate(raw: Raw, knots: tuple[float, ...], starts: tuple[int, ...]) -> Calibration:
    """Fit all constants of a Calibration.

    Ages are shifted to the least absolute error. Their intervals are symmetric on a scale of years that is fitted so
    that COVERAGE of the labels lie within them, in each age group. Estimates tend towards the middle, so a symmetric
    interval in years covers the people at 15 or 55 less often than those at 26, of whom there are most. On the scale
    it reaches further to the side where the errors are larger. The loss is the pinball loss of that quantile of the
    relative error (Koenker and Bassett 1978), in which each age group has the same weight, plus the squared distance
    of each group's coverage.
    The logit is scaled and shifted by maximum likelihood (Platt 1999).

    knots: see Calibration.
    starts: first years of the age groups that should be covered equally.
    """
    shifts = fit_shifts(raw, knots)
    marks = fit_marks(raw, knots, shifts, starts)
    slope, offset = fit_logits(raw)
    return Calibration(knots=knots, shifts=shifts, years=YEARS, marks=marks, slope=slope, offset=offset)


def fit_shifts(raw: Raw, knots: tuple[float, ...]) -> tuple[float, ...]:
    """Return the years to add at each knot for the least mean absolute error. A ridge keeps them small."""
    basis = hat_functions(raw.means, knots)
    share = raw.weights / raw.weights.sum()

    def loss(shifts: NDArray[np.float64]) -> float:
        errors = raw.means + basis @ shifts - raw.ages
        return float(share @ np.sqrt(errors**2 + 0.01) + SHIFT_RIDGE * shifts @ shifts)

    return tuple(np.round(minimize(loss, np.zeros(len(knots)), method="L-BFGS-B").x, 3).tolist())


def fit_marks(
    raw: Raw, knots: tuple[float, ...], shifts: tuple[float, ...], starts: tuple[int, ...]
) -> tuple[float, ...]:
    """Return the places of YEARS on the scale of the intervals."""
    ages = np.clip(raw.means + hat_functions(raw.means, knots) @ np.array(shifts), 0, YEARS[-1])
    errors = _segments(raw.ages) - _segments(ages)
    spreads = np.log(Z_80 * np.maximum(raw.spreads, SMALLEST_SPREAD))
    share = raw.weights / raw.weights.sum()
    group = np.searchsorted(starts, raw.ages, side="right") - 1
    members = np.stack([np.where(group == number, raw.weights, 0) for number in np.unique(group)])
    members /= members.sum(axis=1, keepdims=True)
    balanced = members.mean(axis=0)
    bends = _bends(np.log(np.add(YEARS[:-1], YEARS[1:]) / 2 + YOUNG))

    def loss(widths: NDArray[np.float64], softness: float | None) -> tuple[float, NDArray[np.float64]]:
        parts = errors * np.exp(-widths)
        on_scale = parts.sum(axis=1)
        beyond = np.log(np.maximum(np.abs(on_scale), SMALLEST_ERROR)) - spreads
        seen = np.abs(on_scale) > SMALLEST_ERROR
        by_width = np.where(seen, -1 / np.where(seen, on_scale, 1), 0)[:, None] * parts
        value = balanced @ np.maximum(COVERAGE * beyond, (COVERAGE - 1) * beyond)
        slope = (balanced * np.where(beyond > 0, COVERAGE, COVERAGE - 1)) @ by_width
        if softness is not None:
            inside = expit(-beyond / softness)
            steep = -inside * (1 - inside) / softness
            uneven, off = members @ inside - COVERAGE, share @ inside - COVERAGE
            value += GROUP_WEIGHT * np.mean(uneven**2) + WHOLE_WEIGHT * off**2
            slope += 2 * GROUP_WEIGHT / len(members) * uneven @ ((members * steep) @ by_width)
            slope += 2 * WHOLE_WEIGHT * off * ((share * steep) @ by_width)
        bent = bends @ widths
        value += SCALE_RIDGE * bent @ bent + SIZE_RIDGE * widths @ widths
        return float(value), slope + 2 * SCALE_RIDGE * bent @ bends + 2 * SIZE_RIDGE * widths

    fitted = np.zeros(len(YEARS) - 1)
    for softness in (None, *SOFTNESSES):  # start from the pinball loss alone
        fitted = minimize(
            loss, fitted, (softness,), jac=True, method="L-BFGS-B", bounds=[(-5.0, 5.0)] * len(fitted), options=OPTIONS
        ).x
    return tuple(np.round(np.append(0, np.cumsum(np.diff(YEARS) * np.exp(-fitted))), 4).tolist())


def fit_logits(raw: Raw) -> tuple[float, float]:
    """Return the slope and offset for the logit of being female."""
    signs = np.where(raw.is_female, 1.0, -1.0)
    share = raw.weights / raw.weights.sum()

    def loss(parameters: NDArray[np.float64]) -> float:
        return float(share @ np.logaddexp(0, -signs * (parameters[0] * raw.logits + parameters[1])))

    slope, offset = np.round(minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B").x, 4).tolist()
    return slope, offset


def hat_functions(values: NDArray[np.float64], knots: tuple[float, ...]) -> NDArray[np.float64]:
    """Return (N, K) weights of each knot in the linear interpolation at `values`."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)


def _segments(ages: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, M - 1): how many of an age's years lie between each of YEARS and the next one."""
    years = np.array(YEARS)
    return np.clip(ages[:, None], years[:-1], years[1:]) - years[:-1]


def _bends(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (K - 2, K): how much the slope of a line through values at K `places` changes at each inner place."""
    steps = np.diff(places)
    bends = np.zeros((len(places) - 2, len(places)))
    for index, (before, after) in enumerate(pairwise(steps)):
        bends[index, index : index + 3] = 1 / before, -1 / before - 1 / after, 1 / after
    return bends
