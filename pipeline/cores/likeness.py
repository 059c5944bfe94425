"""How likely two mean embeddings are one person's: log-likelihood ratios, calibrated on the video itself.

What a cosine distance is worth depends on the embedder, the light, the clothes of the day. A video says it itself:
the first and the last third of one tracklet are one person, two tracklets that share a frame are two. Both kinds of
distances are close to log-normal, so that two means and two deviations describe them; where a video has little to say,
they are drawn towards those that its embedder ships with. The log-likelihood ratio of the two normal distributions
(quadratic discriminant analysis; Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.3) is held
where it would fall again for people who are more alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

MIN_DISTANCE = 0.02
"""Cosine; whatever is nearer is as near. A thing that stands still is nearer to itself than any person."""
MAD_TO_STD = 1.4826
"""Of a normal distribution. Medians, because a second box of the same body is seen together with it, and some
tracklets change person."""
PRIOR_TRACKLETS = 10
"""The shipped prior counts as so many tracklets; a minute with three people says as much."""
PRIOR_SHARE, PRIOR_PAIRS = 0.1, 20
"""Before a look at the pairs of a video, one in ten is taken to be one person; as if so many pairs had said so."""
SHARES = (1e-4, 0.5)
EM_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of the natural logarithm of cosine distances, and how many tracklets say so."""

    mean: float
    std: float
    count: int = 0

    @classmethod
    def of(cls, similarities: NDArray[np.float64], count: int) -> Self:
        """From (P,) cosine similarities that `count` tracklets have given."""
        if not len(similarities):
            return cls(0.0, 0.0, 0)
        logs = log_distance(similarities)
        middle = float(np.median(logs))
        return cls(middle, float(MAD_TO_STD * np.median(np.abs(logs - middle))), count)

    def towards(self, prior: "Spread") -> "Spread":
        """Drawn towards a prior that counts as PRIOR_TRACKLETS (the conjugate update of a normal distribution).

        That the two disagree widens the result. Rounded to 0.001.
        """
        ours, theirs = self.count, PRIOR_TRACKLETS
        total = ours + theirs
        mean = (ours * self.mean + theirs * prior.mean) / total
        variance = (ours * self.std**2 + theirs * prior.std**2) / total
        variance += ours * theirs * (self.mean - prior.mean) ** 2 / total**2
        return Spread(round(mean, 3), round(variance**0.5, 3), ours)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What one kind of embedding is worth in one video.

    same: distances of one person to himself. other: of two people. share: of the pairs of tracklets of different shots,
    how many are taken to be one person.
    """

    same: Spread
    other: Spread
    share: float = PRIOR_SHARE

    @classmethod
    def from_distances(cls, same: Sequence[float], other: Sequence[float]) -> Self:
        """From (median cosine distance, deviation of its logarithm) of one person and of two."""
        (near, near_std), (far, far_std) = same, other
        return cls(Spread(float(np.log(near)), near_std), Spread(float(np.log(far)), far_std))

    def ratio(self, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P,) log-likelihood ratios, natural, rounded to 0.001; positive speaks for one person, nan stays nan.

        That of two normal distributions, held where it would fall again for people who are still more alike, or rise
        for those who are still less so.
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

    @property
    def prior_odds(self) -> float:
        """The logarithm of the odds that a pair of different shots is one person, before it is looked at."""
        return round(float(np.log(self.share / (1 - self.share))), 3)

    def with_share(self, similarities: NDArray[np.float64], counts: NDArray[np.int64]) -> "Likeness":
        """With the share that explains the similarities of all pairs best, each seen so many times.

        Expectation-maximisation of a mixture whose components are known; PRIOR_PAIRS keep it where there are few.
        """
        ratios = np.exp(np.minimum(self.ratio(similarities), 50.0))
        share, total = PRIOR_SHARE, float(counts.sum())
        for _ in range(EM_ROUNDS):
            expected = float((counts * (share * ratios / (share * ratios + 1 - share))).sum())
            share = (expected + PRIOR_PAIRS * PRIOR_SHARE) / (total + PRIOR_PAIRS)
        return Likeness(self.same, self.other, round(float(np.clip(share, *SHARES)), 4))

    @classmethod
    def pooled(cls, found: Sequence["Likeness"]) -> Self:
        """What several videos of one camera and one embedder say together; at least one."""

        def together(spreads: Sequence[Spread]) -> Spread:
            weights = np.array([spread.count + PRIOR_TRACKLETS for spread in spreads], np.float64)
            means, variances = (np.array(each) for each in zip(*((s.mean, s.std**2) for s in spreads), strict=True))
            mean = float(np.average(means, weights=weights))
            variance = float(np.average(variances + (means - mean) ** 2, weights=weights))
            return Spread(round(mean, 3), round(variance**0.5, 3), sum(spread.count for spread in spreads))

        return cls(together([one.same for one in found]), together([one.other for one in found]))


Likenesses = Mapping[str, Likeness]
"""By kind of embedding: 'body', 'face'."""

WIDE: Likenesses = {
    "body": Likeness.from_distances((0.08, 0.6), (0.3, 0.5)),
    "face": Likeness.from_distances((0.3, 0.6), (0.8, 0.4)),
}
"""For embedders whose registry entry says nothing: wide, so that little is joined before a video has spoken."""


def log_distance(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of the cosine distance, at least that of MIN_DISTANCE."""
    return np.log(np.maximum(1 - similarity, MIN_DISTANCE))


def steadiness(vectors: NDArray[np.floating]) -> float:
    """Cosine of the mean of the first and the last third of (L, D) embeddings of one tracklet; nan if L < 3.

    A third apart, because neighbours in time are more alike than the same person is after a pause.
    """
    third = len(vectors) // 3
    if not third:
        return float("nan")
    first, last = vectors[:third].sum(axis=0, dtype=np.float64), vectors[-third:].sum(axis=0, dtype=np.float64)
    return round(float(first @ last / max(np.linalg.norm(first) * np.linalg.norm(last), 1e-12)), 3)
