"""Join the estimates from the faces of a person into one estimate.

The weight of a judged face is its quality times the sureness of the estimator, whenever the face was seen. A face
that contradicts the others loses influence (Huber). There is no estimate with too little evidence or too wide an
interval. An estimator that is wrong about a person is wrong on nearly every face, because the faces share features,
light and camera. So many faces make an estimate little surer than one good face does.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.cores.age_dist import pooled
from pipeline.cores.groups import group_indices, read_age_groups
from pipeline.cores.ranges import Count, Distance, Share, check
from pipeline.errors import UserError

Gender = Literal["M", "F", "N"]
WhyNot = Literal["no face judged", "not asked", "too few faces", "unsure"]

WHY_NOT: dict[WhyNot, str] = {
    "no face judged": "nobody looked at a face of this person that could be judged; `faces` says of each why not. Nor "
    "were there person.min_bodies bodies that an estimator could judge",
    "not asked": "faces were judged without an estimator: estimate.estimator is null",
    "too few faces": "fewer than person.min_faces, or of less quality altogether than person.min_weight",
    "unsure": "the interval of the age is wider than person.max_age_interval, or neither gender is as probable as "
    "person.min_gender_prob",
}
"""The reasons why a person has no estimate, in the order of the checks. The first that applies is stated."""

OLDEST_YEARS = 110.0
Z_80 = 1.2815515655446004
"""Half the width of the central 80 % of a normal distribution, in standard deviations."""
SUREST_PROB = 0.98
"""Largest probability that one face can have. A network's 0.9999 on one blurred face must not outweigh many others."""
GENDER_STD_YEARS = 12.0
"""Standard error of the age, in years, above which a gender is less sure than the estimator states, in inverse
proportion. On filmed faces of UTKFace the best factor of its logit was 1.1 up to 13 years, .83 to 16, .64 to 20, and
.47 beyond."""
MAX_STEPS, TOLERANCE_YEARS = 200, 1e-7
RESTORED_WEIGHT = 2.0
"""Summed quality of a person's restored faces from which they speak for the others. Four faces of four cells, which
weigh so much, are as near to the age of all faces as all faces of these cells are
(docs/decisions/0051-one-restored-face-of-a-cell.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonParams:
    """The knobs `person` of conf/base.yaml."""

    min_faces: Count
    min_weight: Distance
    min_bodies: Count
    min_body_gender_prob: Annotated[float, Gt(0.5), Le(1)]
    huber_years: Annotated[float, Gt(0)]
    correlation: Share
    max_age_interval: Annotated[float, Gt(0)]
    min_gender_prob: Annotated[float, Gt(0.5), Le(1)]
    """More than 0.5, which is a tie."""
    age_groups: str | None

    def __post_init__(self) -> None:
        check(self)
        if self.age_groups is not None:
            try:
                read_age_groups(self.age_groups)
            except UserError:
                raise ValueError(
                    f"age_groups must be adience, or rising years such as 0-12,13-17,18-64,65+, got {self.age_groups!r}"
                ) from None

    def with_analysed(self, num_analysed: int) -> "PersonParams":
        """Return the parameters for a video of `num_analysed` analysed frames, in which no person can have more faces
        than frames.

        If these are fewer than min_faces, as for a picture, min_weight does not apply. The gate then decides how
        good a face must be, and max_age_interval how sure an estimate must be.
        """
        if num_analysed >= self.min_faces:
            return self
        fewest = max(1, num_analysed)
        return replace(self, min_faces=fewest, min_weight=0.0, min_bodies=min(self.min_bodies, fewest))

    @property
    def of_bodies(self) -> "PersonParams":
        """The parameters for bodies in place of faces."""
        return replace(self, min_faces=self.min_bodies, min_weight=0.0, min_gender_prob=self.min_body_gender_prob)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """The estimate for one person.

    age, age_low, age_high: years, in steps of 0.1, low <= age <= high, an 80 % interval. None without an estimate.
    gender: M or F. N without an estimate.
    female_prob: in [0, 1], in steps of 0.001. None without evidence. It is stated if gender is N because neither
        gender is probable enough.
    age_why_not, gender_why_not: a reason of WHY_NOT. None if there is an age, or a gender.
    age_dist: probabilities of the groups of cores.age_dist, in steps of 0.001. None without an age, or if the estimator
        has none.
    age_group: the group of PersonParams.age_groups. None without an age, or if no group has it.
    estimated_from: face, or body if there are bodies alone. None without an age and a gender.
    """

    age: float | None
    age_low: float | None
    age_high: float | None
    gender: Gender
    female_prob: float | None
    age_why_not: WhyNot | None
    gender_why_not: WhyNot | None
    age_dist: tuple[float, ...] | None
    age_group: str | None
    estimated_from: Literal["face", "body"] | None

    def or_bodies(self, bodies: NDArray[np.floating], params: PersonParams) -> "Vote":
        """Return this vote, or, if too few faces spoke for any, the vote of bodies alone where there is one.

        bodies: (B, 4) quality, age, its standard error and probability of female of each body that was judged alone.
        """
        if self.estimated_from is not None or self.age_why_not == "unsure" or not len(bodies):
            return self
        qualities, ages, stds, probs = bodies.T.astype(np.float32)
        of_bodies = vote(ages, stds, probs, qualities, params.of_bodies)
        return self if of_bodies.estimated_from is None else replace(of_bodies, estimated_from="body")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeGroup:
    """The age of a person as the published tables and the CSV state it. -1 without an estimate.

    age_min, age_max: years. The ends of the group of five years.
    age_actual: whole years.
    """

    age_min: int
    age_max: int
    age_actual: int


def vote(
    ages: NDArray[np.float32],
    age_stds: NDArray[np.float32],
    female_probs: NDArray[np.float32],
    qualities: NDArray[np.float32],
    params: PersonParams,
    age_dists: NDArray[np.float32] | None = None,
    age_leans: NDArray[np.float32] | None = None,
    restored: NDArray[np.bool_] | None = None,
) -> Vote:
    """Return the estimate from the judged faces of one person.

    Where the person's restored faces weigh RESTORED_WEIGHT, the others that are no better than the best of them have no
    vote, because they would count for most of it: only those of some cells are restored.

    ages, age_stds: (N,) years. nan for a face without an age.
    female_probs: (N,) in [0, 1]. nan for a face without a gender.
    qualities: (N,) in [0, 1]. The weights. A face of quality 1 counts as one whole face, of 0.5 as half a face.
    age_dists: (N, 12) probabilities of the groups of cores.age_dist. nan for a face without them.
    age_leans: (N,) leans of the faces' intervals (age_interval). nan for a symmetric one.
    restored: (N,) whether the estimate of each face is that of its restored picture.

    The order of the faces does not matter, to the last bit.
    """
    leans = np.zeros(len(ages)) if age_leans is None else np.nan_to_num(age_leans)
    canonical = np.lexsort([leans, female_probs, age_stds, ages, qualities])
    if restored is not None:
        canonical = canonical[_speak(qualities, restored)[canonical]]
    years, stds, leans, probs, weights = (
        values[canonical].astype(np.float64) for values in (ages, age_stds, leans, female_probs, qualities)
    )
    age, age_why_not = _vote_age(years, stds, leans, weights, params)
    gender, female_prob, gender_why_not = _vote_gender(probs, stds, weights, params)
    middle, low, high = age or (None, None, None)
    dists = None if age is None or age_dists is None else age_dists[canonical]
    return Vote(
        age=middle,
        age_low=low,
        age_high=high,
        gender=gender,
        female_prob=female_prob,
        age_why_not=age_why_not,
        gender_why_not=gender_why_not,
        age_dist=None if dists is None else pooled(dists, weights * _weights(stds, params)),
        age_group=None if middle is None else _group(middle, params.age_groups),
        estimated_from=None if age is None and gender == "N" else "face",
    )


def _speak(qualities: NDArray[np.floating], restored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which judged faces of one person vote, as (N,) bool."""
    if round(float(qualities[restored].sum(dtype=np.float64)), 3) < RESTORED_WEIGHT:
        return np.ones(len(qualities), np.bool_)
    return restored | (qualities > qualities[restored].max())


def _group(age: float, groups: str | None) -> str | None:
    """Return the name of the group that holds an age, or None if there is none."""
    named = read_age_groups(groups) if groups else ()
    index = int(group_indices(np.array([age]), named)[0]) if named else -1
    return None if index < 0 else named[index].name.replace("–", "-")  # the column has the hyphen of the keyboard


def five_year_group(age: float | None) -> AgeGroup:
    """Return the nearest whole year and its group of five years. Halves are rounded up. `ceil` would make everyone
    older."""
    if age is None:
        return AgeGroup(age_min=-1, age_max=-1, age_actual=-1)
    actual = int(np.floor(age + 0.5))
    group = 5 * (actual // 5)
    return AgeGroup(age_min=group, age_max=group + 5, age_actual=actual)


def huber_location(values: NDArray[np.float64], weights: NDArray[np.float64], tolerated: float) -> float:
    """Return the M-estimate of location of (N,) `values`, N > 0. No value has more influence than one `tolerated`
    away.

    The method is reweighted means, starting at the weighted median (Huber 1964, "Robust estimation of a location
    parameter").
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
    ages: NDArray[np.float64],
    stds: NDArray[np.float64],
    leans: NDArray[np.float64],
    qualities: NDArray[np.float64],
    params: PersonParams,
) -> tuple[tuple[float, float, float] | None, WhyNot | None]:
    estimated = np.isfinite(ages) & np.isfinite(stds)
    if why_not := _too_little(estimated, qualities, params):
        return None, why_not
    ages, stds, leans, qualities = (values[estimated] for values in (ages, stds, leans, qualities))
    weights = qualities * _weights(stds, params)
    age = huber_location(ages, weights, params.huber_years)

    # The shared part of the estimator's error remains, however many faces there are. The sum of qualities stands for
    # the number of independent faces. Unlike (Σw)²/Σw², it never falls when a face is added.
    variance = float(weights @ stds**2 / weights.sum())
    alone = (1 - params.correlation) * variance
    expected = params.correlation * variance + alone / qualities.sum()

    # The variance of one person's faces should be `alone`. If it is larger, the estimator is worse here than it states.
    influences = weights * _huber_weights(ages - age, params.huber_years)
    disagreement = float(influences @ (ages - age) ** 2 / influences.sum())
    margin = Z_80 * np.sqrt(expected + max(0.0, disagreement - alone))
    if round(2 * float(margin), 1) > params.max_age_interval:
        return None, "unsure"

    # Rounding comes before the interval, so that the order of the faces decides nothing.
    low, high = age_interval(age, margin, round(float(weights @ leans / weights.sum()), 6))
    low, middle, high = np.round([low, np.clip(age, 0, OLDEST_YEARS), high], 1).tolist()
    return (middle, low, high), None


def age_interval(age: Any, margin: Any, lean: Any) -> tuple[Any, Any]:
    """Return the lower and the upper end of an 80 % interval, in years.

    margin: half its width.
    lean: -1..1. The interval reaches (1 - lean) margins down and (1 + lean) margins up, as far as ages go. Estimates
        tend towards the middle, so errors to the far side are larger.
    """
    low, high = np.clip([age - margin * (1 - lean), age + margin * (1 + lean)], 0, OLDEST_YEARS)
    return low, high


def _vote_gender(
    probs: NDArray[np.float64], stds: NDArray[np.float64], qualities: NDArray[np.float64], params: PersonParams
) -> tuple[Gender, float | None, WhyNot | None]:
    estimated = np.isfinite(probs)
    if why_not := _too_little(estimated, qualities, params):
        return "N", None, why_not
    probs, stds, qualities = (
        np.clip(probs[estimated], 1 - SUREST_PROB, SUREST_PROB),
        stds[estimated],
        qualities[estimated],
    )
    evidence, weights = np.log(probs / (1 - probs)), qualities
    if np.isfinite(stds).all():  # otherwise the estimator gives no ages
        evidence = evidence * (GENDER_STD_YEARS / np.maximum(stds, GENDER_STD_YEARS))
        weights = qualities * _weights(stds, params)
    # The evidence of n faces whose errors correlate by rho counts as n / (1 + (n - 1) rho) faces, at most 1 / rho.
    faces = qualities.sum()
    worth = faces / (1 + max(0.0, faces - 1) * params.correlation)
    logit = worth * (weights @ evidence) / weights.sum()
    female_prob = round(float(1 / (1 + np.exp(-logit))), 3)
    if female_prob >= params.min_gender_prob:
        return "F", female_prob, None
    if round(1 - female_prob, 3) >= params.min_gender_prob:
        return "M", female_prob, None
    return "N", female_prob, "unsure"


def _too_little(estimated: NDArray[np.bool_], qualities: NDArray[np.float64], params: PersonParams) -> WhyNot | None:
    """Return the reason why the faces in the mask `estimated` are too little evidence for an estimate, or None."""
    if not len(estimated):
        return "no face judged"
    if not estimated.any():
        return "not asked"
    enough = round(float(qualities[estimated].sum()), 3)
    is_enough = estimated.sum() >= params.min_faces and enough > 0 and enough >= params.min_weight
    return None if is_enough else "too few faces"


def _weights(stds: NDArray[np.float64], params: PersonParams) -> NDArray[np.float64]:
    """Return the weights of faces with these standard errors: the inverse of the squared error plus the squared
    tolerance.

    Without the tolerance, a face that is mistaken for a baby's, sure to half a year, would outvote a hundred adult
    ones.
    """
    return 1 / (stds**2 + params.huber_years**2)


def _huber_weights(residuals: NDArray[np.float64], tolerated: float) -> NDArray[np.float64]:
    return tolerated / np.maximum(np.abs(residuals), tolerated)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the mean of the lower and the upper weighted median, so that mirrored values have a mirrored median."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    half = below[-1] / 2
    lower = np.searchsorted(below, half * (1 - 1e-12))
    upper = np.searchsorted(below, half * (1 + 1e-12))
    return float(values[order][lower] + values[order][upper]) / 2
