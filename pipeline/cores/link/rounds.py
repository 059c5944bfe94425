"""Join groups of tracklets by the similarity of their embeddings, as mutual nearest neighbours in rounds."""

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likeness
from pipeline.cores.link.groups import Groups
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.params import IdentityParams


class Evidence:
    """The similarity of groups by one kind of embedding: the average of their known pairs of tracklets.

    surety: the least odds that join two groups.
    """

    def __init__(
        self,
        links: Links,
        similarity: NDArray[np.float64],
        likeness: Likeness,
        params: IdentityParams,
        surety: float,
    ) -> None:
        known = ~np.isnan(similarity)
        self._a, self._b, self.similarity = links.a[known], links.b[known], similarity[known]
        self._compared = np.unique(np.concatenate([self._a, self._b]))
        self._candidates = params.candidates
        self.likeness = likeness
        self.surety = surety

    def between(self, groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return for each pair of groups a < b with a known pair: a * N + b, rising; log-likelihood ratio; whether
        enough is known.

        If only few of many pairs are known, they are the nearest ones and overestimate the similarity.
        """
        different = groups.of[self._a] != groups.of[self._b]  # joined groups are never separated
        self._a, self._b, self.similarity = self._a[different], self._b[different], self.similarity[different]
        ends = groups.of[self._a], groups.of[self._b]
        pairs = np.minimum(*ends) * len(groups.of) + np.maximum(*ends)
        order = np.lexsort((-self.similarity, pairs))
        keys, starts, index, count = np.unique(pairs[order], return_index=True, return_inverse=True, return_counts=True)
        nearer = np.arange(len(order)) - starts[index] < (count[index] + 1) // 2
        totals = np.bincount(index[nearer], self.similarity[order][nearer], minlength=len(keys))
        means = np.round(totals / ((count + 1) // 2), 3)
        low, high = np.divmod(keys, max(len(groups.of), 1))
        sizes = np.bincount(groups.of[self._compared], minlength=len(groups.of))
        enough = 2 * count >= np.minimum(np.minimum(sizes[low], sizes[high]), self._candidates)
        return keys, self.likeness.ratio(means), enough


def join_rounds(evidence: Evidence, other: Evidence | None, groups: Groups) -> None:
    """Merge mutual nearest neighbours, round after round, until no two groups are similar enough.

    If `other` evidence knows a pair of groups, it is added, and must not be sure that they are two people.
    """
    merged = True
    while merged:
        merged = False
        keys, ratios, enough = evidence.between(groups)
        unlike = keys[ratios < min(0.0, evidence.surety)]
        if other is not None:
            more_keys, more, _ = other.between(groups)
            _, ours, theirs = np.intersect1d(keys, more_keys, assume_unique=True, return_indices=True)
            ratios[ours] += more[theirs]
            unlike = np.union1d(unlike, more_keys[more < -other.surety])
        alike = np.flatnonzero(enough & ~np.isin(keys, unlike))
        a, b = np.divmod(keys[alike], max(len(groups.of), 1))
        apart = groups.share_frames(a, b)
        for pair in _partners(a[~apart], b[~apart], ratios[alike][~apart], unlike, groups, evidence):
            groups.merge(*pair)
            merged = True


def _partners(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    ratios: NDArray[np.float64],
    unlike: NDArray[np.int64],
    groups: Groups,
    evidence: Evidence,
) -> list[tuple[int, int]]:
    """Return those pairs (P,) of groups a < b in which each is surely the other's nearest, the most similar pair
    first.

    unlike: rising a * N + b of pairs that are two people by appearance.

    The prior odds count against a pair (`Likeness.odds_against`). So do other groups that are similar too but are not
    the same person as the nearest.
    """
    count = len(groups.of)
    ends, others, worths = np.append(a, b), np.append(b, a), np.append(ratios, ratios)
    order = np.lexsort((others, -worths, ends))
    ends, others, worths = ends[order], others[order], worths[order]
    starts = np.searchsorted(ends, ends)
    nearest = np.full(count, -1)
    nearest[ends] = others[starts]
    mutual = nearest[nearest[ends]] == ends

    rivals = np.flatnonzero(mutual & (others != nearest[ends]))
    partner, rival = nearest[ends[rivals]], others[rivals]
    keys = np.minimum(partner, rival) * count + np.maximum(partner, rival)
    odds_against = evidence.likeness.odds_against(groups.num_beside[nearest[ends]])
    is_other = np.isin(keys, unlike)
    is_other[~is_other] = groups.share_frames(partner[~is_other], rival[~is_other])
    rivals = rivals[is_other]

    def is_sure(place: int) -> bool:
        first, stop = np.searchsorted(rivals, (place, np.searchsorted(ends, ends[place], side="right")))
        against = np.append(odds_against[place], worths[rivals[first:stop]])
        return round(float(worths[place]) - float(np.logaddexp.reduce(against)), 3) >= evidence.surety

    sure = np.zeros(count, np.bool_)
    firsts = np.flatnonzero(mutual & (others == nearest[ends]))
    sure[ends[firsts]] = [is_sure(place) for place in firsts.tolist()]
    chosen = np.flatnonzero((nearest[a] == b) & (nearest[b] == a) & sure[a] & sure[b])
    chosen = chosen[np.lexsort((b[chosen], a[chosen], -ratios[chosen]))]
    return list(zip(a[chosen].tolist(), b[chosen].tolist(), strict=True))
