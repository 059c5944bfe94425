"""Calibrate the raw outputs of an age and gender estimator on faces that it was not trained on."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.cores.vote import Z_80
from pipeline.models.attributes import Calibration, log_spread

COVERAGE = 0.80
"""The coverage to aim at, over all faces and within each age group."""
SOFTNESSES = (0.5, 0.2, 0.1)
"""Softness of an interval's edge while coverage is fitted, as a share of its half width. It shrinks step by step,
because a hard edge has no gradient."""
GROUP_WEIGHT, WHOLE_WEIGHT = 60.0, 2000.0
"""Estimates tend towards the middle, so the people who are 15 or 75 are covered less often than the people who are
estimated at 15 or 75. GROUP_WEIGHT is a compromise between the two. A weight of several hundred covers the true age
groups equally, but only with standard errors that jump between neighbouring ages (1.3 years at 27, 30 at 23), and
intervals that cost a third more (Winkler score on UTKFace's test faces: 34.5 instead of 26.8)."""
SCALE_RIDGE, SHIFT_RIDGE = 1e-3, 2e-3
YOUNG = 5.0
"""Years added to an age before its logarithm is taken. On that axis the standard error bends little."""
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

    Ages are shifted to the least absolute error. Their standard errors are the spread times a factor that is smooth in
    the age, fitted so that COVERAGE of the labels lie within Z_80 of them. The loss is the pinball loss of that
    quantile of the relative error (Koenker and Bassett 1978), plus the squared distance of each age group's coverage.
    The logit is scaled and shifted by maximum likelihood (Platt 1999).

    knots: see Calibration.
    starts: first years of the age groups that should be covered equally.
    """
    shifts = fit_shifts(raw, knots)
    scales = fit_scales(raw, knots, shifts, starts)
    slope, offset = fit_logits(raw)
    return Calibration(
        knots=knots, shifts=shifts, scales=scales, exponents=(1.0,) * len(knots), slope=slope, offset=offset
    )


def fit_shifts(raw: Raw, knots: tuple[float, ...]) -> tuple[float, ...]:
    """Return the years to add at each knot for the least mean absolute error. A ridge keeps them small."""
    basis = hat_functions(raw.means, knots)
    share = raw.weights / raw.weights.sum()

    def loss(shifts: NDArray[np.float64]) -> float:
        errors = raw.means + basis @ shifts - raw.ages
        return float(share @ np.sqrt(errors**2 + 0.01) + SHIFT_RIDGE * shifts @ shifts)

    return tuple(np.round(minimize(loss, np.zeros(len(knots)), method="L-BFGS-B").x, 3).tolist())


def fit_scales(
    raw: Raw, knots: tuple[float, ...], shifts: tuple[float, ...], starts: tuple[int, ...]
) -> tuple[float, ...]:
    """Return the logarithm of the factor at each knot."""
    basis = hat_functions(raw.means, knots)
    errors = np.abs(raw.means + basis @ np.array(shifts) - raw.ages)
    # The logarithm of the factor at which the error is just covered.
    wanted = np.log(np.maximum(errors, 0.05) / Z_80) - log_spread(raw.spreads)
    share = raw.weights / raw.weights.sum()
    group = np.searchsorted(starts, raw.ages, side="right") - 1
    members = np.stack([np.where(group == number, raw.weights, 0) for number in np.unique(group)])
    members /= members.sum(axis=1, keepdims=True)
    bends = _bends(np.log(np.array(knots) + YOUNG))

    def loss(scales: NDArray[np.float64], softness: float | None) -> tuple[float, NDArray[np.float64]]:
        beyond = wanted - basis @ scales
        value = share @ np.maximum(COVERAGE * beyond, (COVERAGE - 1) * beyond)
        slope = -(share * np.where(beyond > 0, COVERAGE, COVERAGE - 1)) @ basis
        if softness is not None:
            inside = expit(-beyond / softness)
            steep = inside * (1 - inside) / softness
            uneven, off = members @ inside - COVERAGE, share @ inside - COVERAGE
            value += GROUP_WEIGHT * np.mean(uneven**2) + WHOLE_WEIGHT * off**2
            slope += 2 * GROUP_WEIGHT / len(members) * uneven @ ((members * steep) @ basis)
            slope += 2 * WHOLE_WEIGHT * off * ((share * steep) @ basis)
        bent = bends @ scales
        return float(value + SCALE_RIDGE * bent @ bent), slope + 2 * SCALE_RIDGE * bent @ bends

    fitted = np.zeros(len(knots))
    for softness in (None, *SOFTNESSES):  # start from the pinball loss alone, which is convex
        fitted = minimize(
            loss, fitted, (softness,), jac=True, method="L-BFGS-B", bounds=[(-5.0, 5.0)] * len(knots), options=OPTIONS
        ).x
    return tuple(np.round(fitted, 4).tolist())


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


def _bends(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (K - 2, K): how much the slope of a line through values at K `places` changes at each inner place."""
    steps = np.diff(places)
    bends = np.zeros((len(places) - 2, len(places)))
    for index, (before, after) in enumerate(pairwise(steps)):
        bends[index, index : index + 3] = 1 / before, -1 / before - 1 / after, 1 / after
    return bends
