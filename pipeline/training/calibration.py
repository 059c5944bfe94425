"""What the raw numbers of an estimator of age and gender mean, fitted on faces that it was not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.cores.vote import Z_80
from pipeline.models.attributes import Calibration, log_spread

COVERAGE = 0.81
"""What is aimed at, over all faces and within each age group: 80 %, and a little for what is lost on other faces."""
SOFTNESSES = (0.5, 0.2, 0.1)
"""How soft the edge of an interval is while coverage is fitted, as a share of its half width: step by step harder, as a
hard edge has no slope to go down."""
GROUP_WEIGHT, WHOLE_WEIGHT, SCALE_RIDGE = 400.0, 2000.0, 5e-2
"""By five-fold cross-validation on the validation faces of UTKFace: of ridges .01, .05, .1, .2 the one whose age groups
were best covered in the folds that were left out."""
SHIFT_RIDGE = 2e-3
EXPONENTS = (0.0, 3.0)
OPTIONS = {"maxiter": 300}


@dataclass(frozen=True, slots=True)
class Raw:
    """N judged faces: raw ages and their spreads, years; logits of a woman; truths; the weight of each, (N,) all."""

    means: NDArray[np.float64]
    spreads: NDArray[np.float64]
    logits: NDArray[np.float64]
    ages: NDArray[np.float64]
    is_female: NDArray[np.bool_]
    weights: NDArray[np.float64]


def calibrate(raw: Raw, knots: tuple[float, ...], starts: tuple[int, ...]) -> Calibration:
    """Fit all constants. knots: see Calibration. starts: first years of the groups that are to be covered alike.

    Ages are shifted for the least absolute error; their standard errors are then fitted so that COVERAGE of the truths
    lie within Z_80 of them: the pinball loss of that quantile (Koenker and Bassett 1978) of the relative error, and the
    squared distance of each age group's coverage from it. The logit is scaled and shifted by maximum likelihood
    (Platt 1999).
    """
    shifts = fit_shifts(raw, knots)
    scales, exponents = fit_scales(raw, knots, shifts, starts)
    slope, offset = fit_logits(raw)
    return Calibration(knots=knots, shifts=shifts, scales=scales, exponents=exponents, slope=slope, offset=offset)


def fit_shifts(raw: Raw, knots: tuple[float, ...]) -> tuple[float, ...]:
    """Years to add at each knot for the least mean absolute error; large ones are dear."""
    basis = hat_functions(raw.means, knots)
    share = raw.weights / raw.weights.sum()

    def loss(shifts: NDArray[np.float64]) -> float:
        errors = raw.means + basis @ shifts - raw.ages
        return float(share @ np.sqrt(errors**2 + 0.01) + SHIFT_RIDGE * shifts @ shifts)

    return tuple(np.round(minimize(loss, np.zeros(len(knots)), method="L-BFGS-B").x, 3).tolist())


def fit_scales(
    raw: Raw, knots: tuple[float, ...], shifts: tuple[float, ...], starts: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The logarithmic scale, and the exponent of the spread, at each knot."""
    basis = hat_functions(raw.means, knots)
    features = np.concatenate([basis, basis * log_spread(raw.spreads)[:, None]], axis=1)
    errors = np.abs(raw.means + basis @ np.array(shifts) - raw.ages)
    wanted = np.log(
        np.maximum(errors, 0.05) / Z_80
    )  # of the logarithm of the standard error, for an error to be covered
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
    found = np.concatenate([np.zeros(num), np.ones(num)])
    for softness in (None, *SOFTNESSES):  # the pinball loss alone is convex: a start
        found = minimize(loss, found, (softness,), jac=True, method="L-BFGS-B", bounds=bounds, options=OPTIONS).x
    found = np.round(found, 4).tolist()
    return tuple(found[:num]), tuple(found[num:])


def fit_logits(raw: Raw) -> tuple[float, float]:
    """Slope and offset of the logit of a woman."""
    signs = np.where(raw.is_female, 1.0, -1.0)
    share = raw.weights / raw.weights.sum()

    def loss(parameters: NDArray[np.float64]) -> float:
        return float(share @ np.logaddexp(0, -signs * (parameters[0] * raw.logits + parameters[1])))

    slope, offset = np.round(minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B").x, 4).tolist()
    return slope, offset


def hat_functions(values: NDArray[np.float64], knots: tuple[float, ...]) -> NDArray[np.float64]:
    """(N, K): what each knot contributes to the interpolation between knots at `values`."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)
