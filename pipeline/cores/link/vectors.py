"""Compare the embeddings of tracklets."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 512
"""The number of embeddings that are compared with all others at a time. It bounds the memory."""
Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


def stack(vectors: Sequence[NDArray[np.float32] | None]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (N, D) vectors with zeros for None, and which are known. Double precision hides the order of sums in
    rounding."""
    known = np.array([vector is not None for vector in vectors], np.bool_)
    width = next((len(vector) for vector in vectors if vector is not None), 0)
    stacked = np.zeros((len(vectors), width))
    for row, vector in enumerate(vectors):
        if vector is not None:
            stacked[row] = vector
    return stacked, known


def similarity(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (L,) cosines, rounded to 0.001. nan if one vector is unknown."""
    result = np.full(len(a), np.nan, np.float64)
    both = np.flatnonzero(known[a] & known[b])
    for block in np.array_split(both, len(both) // 20_000 + 1):
        result[block] = np.einsum("ld,ld->l", vectors[a[block]], vectors[b[block]])
    return result.round(3)


def nearest_pairs(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], allowed: Allowed, candidates: int
) -> NDArray[np.int64]:
    """Return the keys a * N + b, a < b, of pairs in which one tracklet is among the nearest of the other.

    The nearest are the `candidates` most similar ones that are allowed. Of equals, those that appeared first are
    chosen.
    """
    count = len(vectors)
    keys = [np.zeros(0, np.int64)]
    rows = np.flatnonzero(known)
    for block in (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)):
        similarity = np.round(vectors[block] @ vectors.T, 3)
        a, b = np.broadcast_arrays(block[:, None], np.arange(count)[None, :])
        similarity[~allowed(a, b) | (a == b)] = -np.inf
        wanted = min(candidates, count)
        last = np.partition(similarity, count - wanted, axis=1)[:, count - wanted, None]
        nearer, tie = similarity > last, similarity == last
        chosen = nearer | (tie & (np.cumsum(tie, axis=1) <= wanted - nearer.sum(axis=1, keepdims=True)))
        chosen &= np.isfinite(similarity)
        a, b = a[chosen], b[chosen]
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
    return np.unique(np.concatenate(keys))
