"""Learn from a video how much the similarity of two of its tracklets means (cores.likeness)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import overlap_of_smaller
from pipeline.cores.likeness import DistanceStats, Likeness, Likenesses
from pipeline.cores.link.tracklets import Tracklet, appearance_key
from pipeline.cores.link.vectors import ROWS_AT_ONCE, similarity, stack

MAX_OVERLAP = 0.3
"""Largest overlap of the mean boxes of two people, as a share of the smaller. Above it, both may show one body."""


def calibrate(tracklets: Sequence[Tracklet], priors: Likenesses) -> Likenesses:
    """Return how much body and face mean in a video, from its own tracklets and the priors of the embedders.

    The ends of one tracklet show the same person, and tracklets that share a frame show two. The share of one person
    among pairs of different shots is the one that explains all of their similarities best. No knob of `identity`
    changes the result.
    """
    # The last bits of sums over many pairs depend on their order.
    ordered = sorted(tracklets, key=appearance_key)
    a, b = _pairs_in_one_frame(ordered)
    boxes = np.array([tracklet.mean_box for tracklet in ordered]).reshape(-1, 4)
    clear = overlap_of_smaller(boxes[a], boxes[b]) <= MAX_OVERLAP
    a, b = a[clear], b[clear]
    shots = np.array([tracklet.shot for tracklet in ordered], np.int64)
    likenesses = {}
    for kind, prior in priors.items():
        vectors, known = stack([getattr(tracklet, kind) for tracklet in ordered])
        same = np.array([getattr(tracklet, f"{kind}_steadiness") for tracklet in ordered], np.float64)
        same = same[~np.isnan(same)]
        both_known = np.flatnonzero(known[a] & known[b])
        other = similarity(vectors, known, a[both_known], b[both_known])
        counted = len(np.unique([a[both_known], b[both_known]]))
        likeness = Likeness(
            DistanceStats.of(same, len(same)).towards(prior.same), DistanceStats.of(other, counted).towards(prior.other)
        )
        likenesses[kind] = likeness.with_share(*_pairs_over_shots(vectors, known, shots))
    return likenesses


def _pairs_in_one_frame(tracklets: Sequence[Tracklet]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs (a, b), a < b, that share a frame."""
    runs = np.concatenate([np.zeros((0, 2), np.int64), *(tracklet.intervals for tracklet in tracklets)])
    owners = np.repeat(np.arange(len(tracklets)), [len(tracklet.intervals) for tracklet in tracklets])
    order = np.argsort(runs[:, 0], kind="stable")
    runs, owners = runs[order], owners[order]
    counts = np.searchsorted(runs[:, 0], runs[:, 1]) - np.arange(len(runs)) - 1  # the runs that begin before it ends
    first = np.repeat(np.arange(len(runs)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    low, high = np.minimum(owners[first], owners[second]), np.maximum(owners[first], owners[second])
    return np.divmod(np.unique(low * len(tracklets) + high), max(len(tracklets), 1))


def _pairs_over_shots(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], shots: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the similarities of all pairs of different shots, in steps of 0.001, and the number of pairs with each."""
    counts = np.zeros(2001, np.int64)
    rows = np.flatnonzero(known)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block, later = rows[start : start + ROWS_AT_ONCE], rows[start:]
        steps = np.rint(np.clip(vectors[block] @ vectors[later].T, -1, 1) * 1000).astype(np.int64) + 1000
        once = (np.arange(len(later)) > np.arange(len(block))[:, None]) & (shots[block][:, None] != shots[later])
        counts += np.bincount(steps[once], minlength=2001)
    values = np.flatnonzero(counts)
    return values / 1000 - 1, counts[values]
