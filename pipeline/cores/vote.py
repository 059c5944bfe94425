"""One estimate per person, from the faces of the person.

Every judged face has a say by its quality, whenever it was seen; one that contradicts the others loses influence
(Huber), and below a stated amount of evidence nothing is said. The faces of one person share their light, their camera
and the estimator's own bias, so many faces make an estimate surer only up to a point.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.cores.ranges import Count, Distance, Share, check

Gender = Literal["M", "F", "N"]

OLDEST_YEARS = 110.0
Z_80 = 1.2815515655446004
"""Half the width of a normal distribution's central 80 %, in standard deviations."""
SUREST_PROB = 0.98
"""No face is believed more: a network's 0.9999 on one blurred face must not outweigh many others."""
MAX_STEPS, TOLERANCE_YEARS = 200, 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonParams:
    """See `person` in conf/base.yaml."""

    min_faces: Count
    min_weight: Distance
    huber_years: Annotated[float, Gt(0)]
    correlation: Share
    min_gender_prob: Annotated[float, Gt(0.5), Le(1)]
    """0.5 is a tie."""

    def __post_init__(self) -> None:
        check(self)

    def with_looks(self, num_looks: int) -> "PersonParams":
        """The same for a video of `num_looks` analysed frames: nobody can show more faces than there were looks."""
        return replace(self, min_faces=min(self.min_faces, num_looks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What is said about one person.

    age, age_low, age_high: years, in steps of 0.1, low <= age <= high, an 80 % interval; None: abstained.
    gender: M, F, or N where neither is sure enough. female_prob: in steps of 0.001; None: abstained.
    """

    age: float | None
    age_low: float | None
    age_high: float | None
    gender: Gender
    female_prob: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeColumns:
    """A person's age as the published tables and the CSV write it; -1 where there is none."""

    age_min: int
    age_max: int
    age_actual: int


def vote(
    ages: NDArray[np.float32],
    age_stds: NDArray[np.float32],
    female_probs: NDArray[np.float32],
    qualities: NDArray[np.float32],
    params: PersonParams,
) -> Vote:
    """Join the judged faces of one person.

    ages, age_stds: (N,) years; nan: this face has no age. female_probs: (N,) in [0, 1]; nan: none.
    qualities: (N,) in [0, 1], the weights; a face of quality 1 counts as one whole face, of 0.5 as half a face.
    The order of the faces does not matter, to the last bit.
    """
    canonical = np.lexsort([female_probs, age_stds, ages, qualities])
    weights = qualities[canonical].astype(np.float64)
    age, low, high = _vote_age(
        ages[canonical].astype(np.float64), age_stds[canonical].astype(np.float64), weights, params
    )
    gender, female_prob = _vote_gender(female_probs[canonical].astype(np.float64), weights, params)
    return Vote(age=age, age_low=low, age_high=high, gender=gender, female_prob=female_prob)


def age_columns(age: float | None) -> AgeColumns:
    """The nearest whole year (halves go up: `ceil` would make everyone older) and its group of five years."""
    if age is None:
        return AgeColumns(age_min=-1, age_max=-1, age_actual=-1)
    actual = int(np.floor(age + 0.5))
    group = 5 * (actual // 5)
    return AgeColumns(age_min=group, age_max=group + 5, age_actual=actual)


def huber_location(values: NDArray[np.float64], weights: NDArray[np.float64], tolerated: float) -> float:
    """The M-estimate of location of (N,) `values`, N > 0: none pulls harder than from `tolerated` away.

    Reweighted means from the weighted median on (Huber 1964, "Robust estimation of a location parameter").
    """
    centre = _weighted_median(values, weights)
    for _ in range(MAX_STEPS):
        influences = weights * _huber_weights(values - centre, tolerated)
        moved = float(influences @ values / influences.sum())
        if abs(moved - centre) < TOLERANCE_YEARS:
            break
        centre = moved
    return centre


def _vote_age(
    ages: NDArray[np.float64], stds: NDArray[np.float64], weights: NDArray[np.float64], params: PersonParams
) -> tuple[float, float, float] | tuple[None, None, None]:
    told = np.isfinite(ages) & np.isfinite(stds) & (weights > 0)
    ages, stds, weights = ages[told], stds[told], weights[told]
    if not _is_enough(weights, params):
        return None, None, None
    age = huber_location(ages, weights, params.huber_years)

    # What an estimator of this spread leaves uncertain: the shared part of its error stays, however many the faces.
    # Σ weights stands for the number of independent faces; unlike (Σw)²/Σw² it never falls when a face is added.
    variance = float(weights @ stds**2 / weights.sum())
    alone = (1 - params.correlation) * variance
    expected = params.correlation * variance + alone / weights.sum()

    # Faces of one person should differ by `alone`. If they differ by more, the estimator is worse here than it says.
    influences = weights * _huber_weights(ages - age, params.huber_years)
    disagreement = float(influences @ (ages - age) ** 2 / influences.sum())
    margin = Z_80 * np.sqrt(expected + max(0.0, disagreement - alone))

    low, middle, high = np.round(np.clip([age - margin, age, age + margin], 0, OLDEST_YEARS), 1).tolist()
    return middle, low, high


def _vote_gender(
    probs: NDArray[np.float64], weights: NDArray[np.float64], params: PersonParams
) -> tuple[Gender, float | None]:
    told = np.isfinite(probs) & (weights > 0)
    probs, weights = np.clip(probs[told], 1 - SUREST_PROB, SUREST_PROB), weights[told]
    if not _is_enough(weights, params):
        return "N", None
    # The sum of n faces' evidence whose errors correlate by rho is worth n / (1 + (n - 1) rho) faces: at most 1 / rho.
    faces = weights.sum()
    worth = faces / (1 + max(0.0, faces - 1) * params.correlation)
    logit = worth * (weights @ np.log(probs / (1 - probs))) / faces
    female_prob = round(float(1 / (1 + np.exp(-logit))), 3)
    if female_prob >= params.min_gender_prob:
        return "F", female_prob
    if round(1 - female_prob, 3) >= params.min_gender_prob:
        return "M", female_prob
    return "N", female_prob


def _is_enough(weights: NDArray[np.float64], params: PersonParams) -> bool:
    return len(weights) >= max(1, params.min_faces) and round(float(weights.sum()), 3) >= params.min_weight


def _huber_weights(residuals: NDArray[np.float64], tolerated: float) -> NDArray[np.float64]:
    return tolerated / np.maximum(np.abs(residuals), tolerated)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The middle between the lower and the upper one, so that mirrored values have a mirrored median."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    half = below[-1] / 2
    lower = np.searchsorted(below, half * (1 - 1e-12))
    upper = np.searchsorted(below, half * (1 + 1e-12))
    return float(values[order][lower] + values[order][upper]) / 2
