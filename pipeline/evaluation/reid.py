"""Measure the identity in vectors of person crops: rank-1 and mAP across cameras, AUC within a video.

The similarity is the cosine of unit vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 4000
"""Bins of the similarity, -1..1. Ties within a bin count half, so an AUC is exact to about 1e-4."""
QUANTILES = (0.025, 0.975)
"""The intervals are 95 % intervals."""
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Ranking:
    """Q queries that have a true match in the gallery.

    people: (Q,).
    precisions: (Q,) average precision.
    hits: (Q,) bool. Whether the first rank is correct.
    """

    people: NDArray[np.int64]
    precisions: NDArray[np.float64]
    hits: NDArray[np.bool_]


def rank(
    vectors: NDArray[np.float32],
    people: NDArray[np.int64],
    cameras: NDArray[np.int64],
    *,
    queries: NDArray[np.bool_],
    gallery: NDArray[np.bool_],
) -> Ranking:
    """Rank the gallery for each query by falling similarity, without crops of the same person and camera.

    The protocol is that of Market-1501 (Zheng et al., ICCV 2015): average precision is the mean of the precision at
    each true match. A query without a true match is left out.

    vectors: (N, D) unit vectors.
    """
    queried, precisions, hits = [], [], []
    places = np.flatnonzero(gallery)
    for start in range(0, len(chosen := np.flatnonzero(queries)), BLOCK):
        some = chosen[start : start + BLOCK]
        order = np.argsort(-(vectors[some] @ vectors[places].T), axis=1, kind="stable")
        for query, row in zip(some, order, strict=True):
            ranked = places[row]
            ranked = ranked[(people[ranked] != people[query]) | (cameras[ranked] != cameras[query])]
            is_match = people[ranked] == people[query]
            if not is_match.any():
                continue
            at = np.flatnonzero(is_match)
            queried.append(people[query])
            precisions.append(float(np.mean(np.arange(1, len(at) + 1) / (at + 1))))
            hits.append(bool(is_match[0]))
    return Ranking(np.array(queried, np.int64), np.array(precisions), np.array(hits, bool))


def ranking_figures(ranking: Ranking, *, resamples: int, rng: np.random.Generator) -> dict[str, object]:
    """Return a dict: `queries`, and `rank1` and `map`, each with a 95 % interval from resampled people.

    A figure is None without a query that has a match. Without resamples only the intervals are None.
    """
    figures: dict[str, object] = {"queries": len(ranking.people)}
    for name, values in (("rank1", ranking.hits.astype(float)), ("map", ranking.precisions)):
        figures |= {name: float(values.mean()) if len(values) else None}
        figures |= {f"{name}_interval": _mean_interval(values, ranking.people, resamples, rng)}
    return figures


def _mean_interval(
    values: NDArray[np.floating], groups: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the interval of a mean over grouped values. Whole groups are resampled."""
    _, index = np.unique(groups, return_inverse=True)
    if not len(values) or not resamples:
        return None
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = rng.integers(0, len(sums), (resamples, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), QUANTILES)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Similarities of the crops of T tracks.

    counts: (T, T, BINS) numbers of pairs by similarity. a < b for pairs of two tracks; the diagonal has pairs of one
        track.
    """

    counts: NDArray[np.float64]


def count_pairs(
    vectors: NDArray[np.float32], tracks: NDArray[np.int64], times_s: NDArray[np.floating], *, min_gap_s: float
) -> Pairs:
    """Count pairs of crops of one video that are at least `min_gap_s` apart. vectors: (N, D) unit vectors."""
    names, index = np.unique(tracks, return_inverse=True)
    counts = np.zeros((len(names), len(names), BINS))
    for start in range(0, len(vectors), BLOCK):
        some = slice(start, start + BLOCK)
        similarities = vectors[some] @ vectors.T
        bins = ((similarities + 1) * (BINS / 2)).astype(np.int64).clip(0, BINS - 1)
        # Each pair counts once, at its later crop.
        later, earlier = np.nonzero(times_s[some, None] - times_s[None, :] >= min_gap_s - 1e-9)
        a, b = np.sort([index[some][later], index[earlier]], axis=0)
        np.add.at(counts, (a, b, bins[later, earlier]), 1)
    return Pairs(counts)


def auc_figures(videos: Mapping[str, Pairs], *, resamples: int, rng: np.random.Generator) -> dict[str, object]:
    """Return the AUC of every video, and of all pairs under `pooled`, each with a 95 % interval from resampled tracks.

    The AUC is the probability that a pair of one track is more similar than a pair of two tracks of the same video.
    """
    figures: dict[str, object] = {}
    for name, chosen in [*((name, [name]) for name in videos), ("pooled", list(videos))]:
        parts = [videos[video] for video in chosen]
        same, other = sum((_weighed(part, None) for part in parts), np.zeros((2, BINS)))
        drawn = [
            area_under_curve(*sum((_weighed(part, rng) for part in parts), np.zeros((2, BINS))))
            for _ in range(resamples)
        ]
        sound = [value for value in drawn if value is not None]
        figures[name] = {
            "auc": area_under_curve(same, other),
            "auc_interval": tuple(float(q) for q in np.quantile(sound, QUANTILES)) if sound else None,
            "tracks": sum(len(part.counts) for part in parts),
            "same_pairs": int(np.sum(same)),
            "different_pairs": int(np.sum(other)),
        }
    return figures


def _weighed(pairs: Pairs, rng: np.random.Generator | None) -> NDArray[np.float64]:
    """Return (2, BINS) counts of pairs of one track and of two, with each track weighted by how often it is drawn."""
    count = len(pairs.counts)
    weights = np.ones(count) if rng is None else np.bincount(rng.integers(0, count, count), minlength=count)
    diagonal = np.arange(count)
    same = weights.astype(np.float64) @ pairs.counts[diagonal, diagonal]
    upper = np.triu(np.outer(weights, weights), 1).astype(np.float64)
    return np.stack([same, np.tensordot(upper, pairs.counts, axes=([0, 1], [0, 1]))])


def area_under_curve(same: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """Return the probability that a pair of `same` is more similar than one of `other`, or None without pairs of both.

    same, other: (B,) numbers of pairs by ascending similarity.
    """
    if not np.sum(same) or not np.sum(other):
        return None
    below = np.cumsum(other) - other / 2
    return float(np.sum(same * below) / (np.sum(same) * np.sum(other)))


def normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N, D) unit vectors."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def cover(frames: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (R,) largest share of each of (R, 4) xyxy boxes that another box of its frame covers."""
    shares = np.zeros(len(boxes))
    for frame in np.unique(frames):
        here = np.flatnonzero(frames == frame)
        some = boxes[here].astype(np.float64)
        first = np.maximum(some[:, None, :2], some[None, :, :2])
        last = np.minimum(some[:, None, 2:], some[None, :, 2:])
        common = np.prod(np.clip(last - first, 0, None), axis=2)
        np.fill_diagonal(common, 0)
        shares[here] = common.max(axis=1) / np.prod(some[:, 2:] - some[:, :2], axis=1)
    return shares
