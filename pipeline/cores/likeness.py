"""Calibrate on the video itself how likely two mean embeddings show the same person, as log-likelihood ratios.

The meaning of a cosine distance depends on the embedder, the light and the clothes of the day. A video shows it
itself, because the first and the last third of one tracklet show the same person, and two tracklets that share a
frame are two. Both kinds of distances are close to log-normal, so two means and two deviations describe them. If a
video has few of them, they are drawn towards the prior of the embedder. The result is the log-likelihood ratio of
the two normal distributions (quadratic discriminant analysis; Hastie, Tibshirani and Friedman, The Elements of
Statistical Learning, 4.3). It is held constant where it would fall again for more similar people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

MIN_DISTANCE = 0.02
"""Smallest cosine distance. Smaller ones count as this. A thing that stands still is nearer to itself than any
person is."""
MAD_TO_STD = 1.4826
"""Converts a median absolute deviation to the standard deviation of a normal distribution. Medians are used because
duplicate boxes of one body share frames with it, and some tracklets change person."""
PRIOR_TRACKLETS = 10
"""The number of tracklets that the prior counts as. A minute with three people has as many."""
PRIOR_SHARE, PRIOR_PAIRS = 0.1, 20
"""The prior of the share of pairs that are the same person, one in ten, and the number of pairs that it counts as."""
SHARES = (1e-4, 0.5)
MOST_FOUND = 0.75
"""Largest chance that somebody is one of the people who are seen together elsewhere. .75 and .9 join the same over
artificial cuts, and more than .5 (decision 33)."""
EM_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class DistanceStats:
    """Statistics of the natural logarithm of cosine distances.

    mean: the mean.
    std: the standard deviation.
    count: the number of tracklets behind both.
    """

    mean: float
    std: float
    count: int = 0

    @classmethod
    def of(cls, similarities: NDArray[np.float64], count: int) -> Self:
        """Return the statistics of (P,) cosine similarities from `count` tracklets."""
        if not len(similarities):
            return cls(0.0, 0.0, 0)
        logs = log_distance(similarities)
        middle = float(np.median(logs))
        return cls(middle, float(MAD_TO_STD * np.median(np.abs(logs - middle))), count)

    def towards(self, prior: "DistanceStats") -> "DistanceStats":
        """Return these statistics drawn towards a prior that counts as PRIOR_TRACKLETS, rounded to 0.001.

        This is the conjugate update of a normal distribution. A disagreement of the two widens the result.
        """
        ours, theirs = self.count, PRIOR_TRACKLETS
        total = ours + theirs
        mean = (ours * self.mean + theirs * prior.mean) / total
        variance = (ours * self.std**2 + theirs * prior.std**2) / total
        variance += ours * theirs * (self.mean - prior.mean) ** 2 / total**2
        return DistanceStats(round(mean, 3), round(variance**0.5, 3), ours)


@dataclass(frozen=True, slots=True)
class Likeness:
    """The calibrated similarity of one kind of embedding in one video.

    same: distances within one person.
    other: distances between two people.
    share: the share of one person among the pairs of tracklets of different shots.
    """

    same: DistanceStats
    other: DistanceStats
    share: float = PRIOR_SHARE

    @classmethod
    def from_distances(cls, same: Sequence[float], other: Sequence[float]) -> Self:
        """Return the calibration from (median cosine distance, deviation of its logarithm) of one person and of two."""
        (near, near_std), (far, far_std) = same, other
        return cls(DistanceStats(float(np.log(near)), near_std), DistanceStats(float(np.log(far)), far_std))

    def ratio(self, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (P,) natural log-likelihood ratios, rounded to 0.001. Positive values favour one person. nan stays
        nan.

        The ratio of two normal distributions is held constant where it would fall again for more similar people, or
        rise for less similar ones.
        """
        same, other = self.same, self.other
        logs = log_distance(similarity)
        if other.mean <= same.mean:
            return np.where(np.isnan(logs), np.nan, 0.0)
        curve = 1 / other.std**2 - 1 / same.std**2
        if curve:
            turn = (other.mean / other.std**2 - same.mean / same.std**2) / curve
            logs = np.minimum(logs, turn) if curve > 0 else np.maximum(logs, turn)
        ratio = ((logs - other.mean) / other.std) ** 2 / 2 - ((logs - same.mean) / same.std) ** 2 / 2
        return np.round(ratio + np.log(other.std / same.std), 3)

    def odds_against(self, num_beside: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (P,) log odds, before anything is compared, that somebody is neither a given tracklet nor one of
        `num_beside` people seen beside it.

        At most one of them is that person, so their chances add up. The odds for the given one alone would count the
        others twice, because their similarity counts against it too.
        """
        chance: NDArray[np.float64] = np.minimum(self.share * (num_beside + 1.0), max(MOST_FOUND, self.share))
        return np.log((1 - chance) / self.share).round(3)

    def with_share(self, similarities: NDArray[np.float64], counts: NDArray[np.int64]) -> "Likeness":
        """Return the calibration with the share that explains the similarities of all pairs best.

        similarities: the different values.
        counts: the number of pairs with each.

        The method is expectation-maximisation of a mixture with known components. PRIOR_PAIRS stabilise it with few
        pairs.
        """
        ratios = np.exp(np.minimum(self.ratio(similarities), 50.0))
        share, total = PRIOR_SHARE, float(counts.sum())
        for _ in range(EM_ROUNDS):
            expected = float((counts * (share * ratios / (share * ratios + 1 - share))).sum())
            share = (expected + PRIOR_PAIRS * PRIOR_SHARE) / (total + PRIOR_PAIRS)
        return Likeness(self.same, self.other, round(float(np.clip(share, *SHARES)), 4))

    @classmethod
    def pooled(cls, likenesses: Sequence["Likeness"]) -> Self:
        """Return the joint calibration of one or more videos of one camera and one embedder."""

        def together(stats: Sequence[DistanceStats]) -> DistanceStats:
            weights = np.array([spread.count + PRIOR_TRACKLETS for spread in stats], np.float64)
            means, variances = (np.array(values) for values in zip(*((s.mean, s.std**2) for s in stats), strict=True))
            mean = float(np.average(means, weights=weights))
            variance = float(np.average(variances + (means - mean) ** 2, weights=weights))
            return DistanceStats(round(mean, 3), round(variance**0.5, 3), sum(spread.count for spread in stats))

        return cls(
            together([likeness.same for likeness in likenesses]), together([likeness.other for likeness in likenesses])
        )


Likenesses = Mapping[str, Likeness]
"""Kind of embedding ('body', 'face') -> its calibration."""

WIDE: Likenesses = {
    "body": Likeness.from_distances((0.08, 0.6), (0.3, 0.5)),
    "face": Likeness.from_distances((0.3, 0.6), (0.8, 0.4)),
}
"""The priors for embedders that have none in the registry. They are wide, so little is joined before the video
itself has given data."""


def log_distance(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of the cosine distance, which is at least MIN_DISTANCE."""
    return np.log(np.maximum(1 - similarity, MIN_DISTANCE))


def steadiness(vectors: NDArray[np.floating]) -> float:
    """Return the cosine of the means of the first and the last third of (L, D) embeddings of one tracklet. nan if L
    < 3.

    The two are a third apart, because neighbours in time are more similar than one person is after a pause.
    """
    third = len(vectors) // 3
    if not third:
        return float("nan")
    first, last = vectors[:third].sum(axis=0, dtype=np.float64), vectors[-third:].sum(axis=0, dtype=np.float64)
    return round(float(first @ last / max(np.linalg.norm(first) * np.linalg.norm(last), 1e-12)), 3)
