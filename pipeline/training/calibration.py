"""Fit what the raw outputs of an age and gender estimator mean, on faces that it was not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.cores.vote import Z_80
from pipeline.models.attributes import Calibration, log_spread

COVERAGE = 0.81
"""The coverage to aim at, over all faces and within each age group: 80 %, plus a little for what is lost on new faces.
"""
SOFTNESSES = (0.5, 0.2, 0.1)
"""Softness of an interval's edge while coverage is fitted, as a share of its half width. It shrinks step by step,
because a hard edge has no gradient."""
GROUP_WEIGHT, WHOLE_WEIGHT, SCALE_RIDGE = 400.0, 2000.0, 5e-2
"""Chosen by five-fold cross-validation on UTKFace's validation faces: of the ridges .01, .05, .1 and .2, this one
covered the age groups of the left-out folds best."""
SHIFT_RIDGE = 2e-3
EXPONENTS = (0.0, 3.0)
OPTIONS = {"maxiter": 300}


@dataclass(frozen=True, slots=True)
class Raw:
    """N judged faces. All arrays are (N,).

    means, spreads: raw ages and their standard deviations, in years.
    logits: of a woman.
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

    Ages are shifted to the least absolute error. Their standard errors are then fitted so that COVERAGE of the labels
    lie within Z_80 of them. The loss is the pinball loss of that quantile of the relative error (Koenker and Bassett
    1978), plus the squared distance of each age group's coverage. The logit is scaled and shifted by maximum likelihood
    (Platt 1999).

    knots: see Calibration.
    starts: first years of the age groups that should be covered equally.
    """
    shifts = fit_shifts(raw, knots)
    scales, exponents = fit_scales(raw, knots, shifts, starts)
    slope, offset = fit_logits(raw)
    return Calibration(knots=knots, shifts=shifts, scales=scales, exponents=exponents, slope=slope, offset=offset)


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
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the logarithmic scale, and the exponent of the spread, at each knot."""
    basis = hat_functions(raw.means, knots)
    features = np.concatenate([basis, basis * log_spread(raw.spreads)[:, None]], axis=1)
    errors = np.abs(raw.means + basis @ np.array(shifts) - raw.ages)
    wanted = np.log(
        np.maximum(errors, 0.05) / Z_80
    )  # the logarithm of the standard error at which the error is just covered
    share = raw.weights / raw.weights.sum()
    group = np.searchsorted(starts, raw.ages, side="right") - 1
    members = np.stack([np.where(group == each, raw.weights, 0) for each in np.unique(group)])
    members /= members.sum(axis=1, keepdims=True)
    num = len(knots)

    def loss(parameters: NDArray[np.float64], softness: float | None) -> tuple[float, NDArray[np.float64]]:
        beyond = wanted - features @ parameters
        value = share @ np.maximum(COVERAGE * beyond, (COVERAGE - 1) * beyond)
        slope = -(share * np.where(beyond > 0, COVERAGE, COVERAGE - 1)) @ features
        if softness is not None:
            inside = expit(-beyond / softness)
            steep = inside * (1 - inside) / softness
            uneven, off = members @ inside - COVERAGE, share @ inside - COVERAGE
            value += GROUP_WEIGHT * np.mean(uneven**2) + WHOLE_WEIGHT * off**2
            slope += 2 * GROUP_WEIGHT / len(members) * uneven @ ((members * steep) @ features)
            slope += 2 * WHOLE_WEIGHT * off * ((share * steep) @ features)
        steps, bends = np.diff(parameters[:num]), parameters[num:] - 1
        value += SCALE_RIDGE * (steps @ steps + bends @ bends)
        slope[: num - 1] -= 2 * SCALE_RIDGE * steps
        slope[1:num] += 2 * SCALE_RIDGE * steps
        slope[num:] += 2 * SCALE_RIDGE * bends
        return float(value), slope

    bounds = [(-5.0, 5.0)] * num + [EXPONENTS] * num
    constants = np.concatenate([np.zeros(num), np.ones(num)])
    for softness in (None, *SOFTNESSES):  # start from the pinball loss alone, which is convex
        constants = minimize(
            loss, constants, (softness,), jac=True, method="L-BFGS-B", bounds=bounds, options=OPTIONS
        ).x
    constants = np.round(constants, 4).tolist()
    return tuple(constants[:num]), tuple(constants[num:])


def fit_logits(raw: Raw) -> tuple[float, float]:
    """Return the slope and offset for the logit of a woman."""
    signs = np.where(raw.is_female, 1.0, -1.0)
    share = raw.weights / raw.weights.sum()

    def loss(parameters: NDArray[np.float64]) -> float:
        return float(share @ np.logaddexp(0, -signs * (parameters[0] * raw.logits + parameters[1])))

    slope, offset = np.round(minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B").x, 4).tolist()
    return slope, offset


def hat_functions(values: NDArray[np.float64], knots: tuple[float, ...]) -> NDArray[np.float64]:
    """Return (N, K) weights of each knot in the linear interpolation at `values`."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)
