"""One estimate per person, from the faces of the person.

Every judged face has a say by its quality and by how sure the estimator is of it, whenever it was seen; one that
contradicts the others loses influence (Huber). Below a stated amount of evidence, and beyond a stated width of the
interval, nothing is said. What an estimator gets wrong about a person it gets wrong on nearly every face: they share
their features, their light and their camera. So many faces make an estimate little surer than one good face does.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.cores.ranges import Count, Distance, Share, check

Gender = Literal["M", "F", "N"]
WhyNot = Literal["no face judged", "not asked", "too few faces", "unsure"]

WHY_NOT: dict[WhyNot, str] = {
    "no face judged": "nobody looked at a face of this person that could be judged; `faces` says of each why not",
    "not asked": "faces were judged without an estimator: estimate.estimator is null",
    "too few faces": "fewer than person.min_faces, or of less quality altogether than person.min_weight",
    "unsure": "the interval of the age is wider than person.max_age_interval, or neither gender is as probable as "
    "person.min_gender_prob",
}
"""Why nothing is said of a person, in the order in which it is asked; the first that holds is given."""

OLDEST_YEARS = 110.0
Z_80 = 1.2815515655446004
"""Half the width of a normal distribution's central 80 %, in standard deviations."""
SUREST_PROB = 0.98
"""No face is believed more: a network's 0.9999 on one blurred face must not outweigh many others."""
GENDER_STD_YEARS = 12.0
"""Standard error of the age from which on a gender is less sure than the estimator says, in inverse proportion: on
filmed faces of UTKFace the best factor of its logit was 1.1 up to 13 years, .83 to 16, .64 to 20, .47 beyond."""
MAX_STEPS, TOLERANCE_YEARS = 200, 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonParams:
    """See `person` in conf/base.yaml."""

    min_faces: Count
    min_weight: Distance
    huber_years: Annotated[float, Gt(0)]
    correlation: Share
    max_age_interval: Annotated[float, Gt(0)]
    min_gender_prob: Annotated[float, Gt(0.5), Le(1)]
    """0.5 is a tie."""

    def __post_init__(self) -> None:
        check(self)

    def with_looks(self, num_looks: int) -> "PersonParams":
        """The same for a video of `num_looks` analysed frames: nobody can show more faces than there were looks.

        Where these are fewer than min_faces, as in a picture, min_weight does not hold: how good a face must be says
        the gate, and how sure an estimate max_age_interval.
        """
        if num_looks >= self.min_faces:
            return self
        return replace(self, min_faces=max(1, num_looks), min_weight=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What is said about one person.

    age, age_low, age_high: years, in steps of 0.1, low <= age <= high, an 80 % interval; None: abstained.
    gender: M, F, or N where there is none. female_prob: in steps of 0.001; None: abstained; it is told where gender is
    N because neither is probable enough. age_why_not, gender_why_not: of WHY_NOT; None where there is an age, a gender.
    """

    age: float | None
    age_low: float | None
    age_high: float | None
    gender: Gender
    female_prob: float | None
    age_why_not: WhyNot | None
    gender_why_not: WhyNot | None


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
    years, stds, probs, weights = (
        each[canonical].astype(np.float64) for each in (ages, age_stds, female_probs, qualities)
    )
    age, age_why_not = _vote_age(years, stds, weights, params)
    gender, female_prob, gender_why_not = _vote_gender(probs, stds, weights, params)
    middle, low, high = age or (None, None, None)
    return Vote(
        age=middle,
        age_low=low,
        age_high=high,
        gender=gender,
        female_prob=female_prob,
        age_why_not=age_why_not,
        gender_why_not=gender_why_not,
    )


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
    ages: NDArray[np.float64], stds: NDArray[np.float64], qualities: NDArray[np.float64], params: PersonParams
) -> tuple[tuple[float, float, float] | None, WhyNot | None]:
    told = np.isfinite(ages) & np.isfinite(stds)
    if why_not := _too_little(told, qualities, params):
        return None, why_not
    ages, stds, qualities = ages[told], stds[told], qualities[told]
    weights = qualities * _says(stds, params)
    age = huber_location(ages, weights, params.huber_years)

    # What an estimator of this spread leaves uncertain: the shared part of its error stays, however many the faces.
    # Σ qualities stands for the number of independent faces; unlike (Σw)²/Σw² it never falls when a face is added.
    variance = float(weights @ stds**2 / weights.sum())
    alone = (1 - params.correlation) * variance
    expected = params.correlation * variance + alone / qualities.sum()

    # Faces of one person should differ by `alone`. If they differ by more, the estimator is worse here than it says.
    influences = weights * _huber_weights(ages - age, params.huber_years)
    disagreement = float(influences @ (ages - age) ** 2 / influences.sum())
    margin = Z_80 * np.sqrt(expected + max(0.0, disagreement - alone))
    if round(2 * float(margin), 1) > params.max_age_interval:
        return None, "unsure"

    low, middle, high = np.round(np.clip([age - margin, age, age + margin], 0, OLDEST_YEARS), 1).tolist()
    return (middle, low, high), None


def _vote_gender(
    probs: NDArray[np.float64], stds: NDArray[np.float64], qualities: NDArray[np.float64], params: PersonParams
) -> tuple[Gender, float | None, WhyNot | None]:
    told = np.isfinite(probs)
    if why_not := _too_little(told, qualities, params):
        return "N", None, why_not
    probs, stds, qualities = np.clip(probs[told], 1 - SUREST_PROB, SUREST_PROB), stds[told], qualities[told]
    evidence, weights = np.log(probs / (1 - probs)), qualities
    if np.isfinite(stds).all():  # else the estimator says no ages
        evidence = evidence * (GENDER_STD_YEARS / np.maximum(stds, GENDER_STD_YEARS))
        weights = qualities * _says(stds, params)
    # The sum of n faces' evidence whose errors correlate by rho is worth n / (1 + (n - 1) rho) faces: at most 1 / rho.
    faces = qualities.sum()
    worth = faces / (1 + max(0.0, faces - 1) * params.correlation)
    logit = worth * (weights @ evidence) / weights.sum()
    female_prob = round(float(1 / (1 + np.exp(-logit))), 3)
    if female_prob >= params.min_gender_prob:
        return "F", female_prob, None
    if round(1 - female_prob, 3) >= params.min_gender_prob:
        return "M", female_prob, None
    return "N", female_prob, "unsure"


def _too_little(told: NDArray[np.bool_], qualities: NDArray[np.float64], params: PersonParams) -> WhyNot | None:
    """Why nothing can be said of a person from the faces that are `told`, if so."""
    if not len(told):
        return "no face judged"
    if not told.any():
        return "not asked"
    enough = round(float(qualities[told].sum()), 3)
    is_enough = told.sum() >= params.min_faces and enough > 0 and enough >= params.min_weight
    return None if is_enough else "too few faces"


def _says(stds: NDArray[np.float64], params: PersonParams) -> NDArray[np.float64]:
    """How much faces with such standard errors say: the inverse of the squared error, but for what is tolerated anyway.

    Without that a face that is taken for a baby's, sure to half a year, would outvote a hundred of an adult.
    """
    return 1 / (stds**2 + params.huber_years**2)


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
