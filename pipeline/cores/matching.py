"""Match the persons of two results for one video by the boxes that they share.

Both results number their persons on their own. Two boxes of one frame are one box in both results if they overlap by
MIN_IOU or more, and neither overlaps another one more. Persons are assigned one to one, so that the number of frames in
which they share a box is the largest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MIN_IOU = 0.5
PAIRS_AT_ONCE = 1 << 20
"""Largest number of pairs of boxes that are compared at a time, unless a single frame has more."""


@dataclass(frozen=True, slots=True)
class PersonBoxes:
    """The boxes of one result for a video.

    frames: (N,) int64, ascending. Frame of each box.
    persons: (N,) int64. Person of each box.
    boxes: (N, 4) float64 xyxy px.
    """

    frames: NDArray[np.int64]
    persons: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PersonMatch:
    """The same person in both results.

    frames: number of frames in which both have the same box.
    """

    a: int
    b: int
    frames: int


@dataclass(frozen=True, slots=True)
class Matching:
    """The persons of the results A and B.

    matches: persons that are in both, by their ids in A.
    gone: persons of A whose boxes nobody has in B.
    new: persons of B whose boxes nobody has in A.
    merged: (a, b). Person a of A has no match, and most of the boxes that a shares belong to person b of B.
    split: (a, b). Person b of B has no match, and most of the boxes that b shares belong to person a of A.
    shared: number of boxes that both results have.
    moved: number of them whose two persons are not a match.
    """

    matches: tuple[PersonMatch, ...]
    gone: tuple[int, ...]
    new: tuple[int, ...]
    merged: tuple[tuple[int, int], ...]
    split: tuple[tuple[int, int], ...]
    shared: int
    moved: int


def match_persons(a: PersonBoxes, b: PersonBoxes) -> Matching:
    """Return the best one-to-one matching of the persons of two results."""
    persons_a, index_a = np.unique(a.persons, return_inverse=True)
    persons_b, index_b = np.unique(b.persons, return_inverse=True)
    shared = np.zeros((len(persons_a), len(persons_b)), np.int64)
    for rows, columns in _common_boxes(a, b):
        np.add.at(shared, (index_a[rows], index_b[columns]), 1)
    pairs = [
        (int(p), int(q)) for p, q in zip(*linear_sum_assignment(shared, maximize=True), strict=True) if shared[p, q]
    ]
    matched_a, matched_b = {p for p, _ in pairs}, {q for _, q in pairs}
    alone_a = [p for p in range(len(persons_a)) if p not in matched_a]
    alone_b = [q for q in range(len(persons_b)) if q not in matched_b]
    num_shared = int(shared.sum())
    return Matching(
        matches=tuple(PersonMatch(int(persons_a[p]), int(persons_b[q]), int(shared[p, q])) for p, q in pairs),
        gone=tuple(int(persons_a[p]) for p in alone_a if not shared[p].any()),
        new=tuple(int(persons_b[q]) for q in alone_b if not shared[:, q].any()),
        merged=tuple((int(persons_a[p]), int(persons_b[shared[p].argmax()])) for p in alone_a if shared[p].any()),
        split=tuple((int(persons_a[shared[:, q].argmax()]), int(persons_b[q])) for q in alone_b if shared[:, q].any()),
        shared=num_shared,
        moved=num_shared - sum(int(shared[pair]) for pair in pairs),
    )


def _common_boxes(a: PersonBoxes, b: PersonBoxes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the indices of the boxes that both results have, for a few frames at a time."""
    frames = np.intersect1d(a.frames, b.frames)
    first_a, first_b = np.searchsorted(a.frames, frames), np.searchsorted(b.frames, frames)
    num_a = np.searchsorted(a.frames, frames, side="right") - first_a
    num_b = np.searchsorted(b.frames, frames, side="right") - first_b
    total = np.cumsum(num_a * num_b)
    blocks = total // PAIRS_AT_ONCE
    borders = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(frames)]
    for start, end in pairwise(borders):
        if start == end:
            continue
        some = slice(start, end)
        rows, columns = _pairs(first_a[some], num_a[some], first_b[some], num_b[some])
        yield _best_pairs(rows, columns, _paired_iou(a.boxes[rows], b.boxes[columns]))


def _pairs(
    first_a: NDArray[np.int64], num_a: NDArray[np.int64], first_b: NDArray[np.int64], num_b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of every pair of boxes in one frame, for frames with these ranges of boxes."""
    sizes = num_a * num_b
    frame = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(frame)) - (np.cumsum(sizes) - sizes)[frame]
    return first_a[frame] + place // num_b[frame], first_b[frame] + place % num_b[frame]


def _best_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], iou: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of boxes that overlap enough, of which each box has no better one."""
    near = np.flatnonzero(iou >= MIN_IOU)
    order = near[np.lexsort((columns[near], rows[near], -iou[near]))]
    rows, columns = rows[order], columns[order]
    is_best = np.zeros((2, len(order)), bool)
    is_best[0, np.unique(rows, return_index=True)[1]] = True
    is_best[1, np.unique(columns, return_index=True)[1]] = True
    return rows[is_best.all(axis=0)], columns[is_best.all(axis=0)]


def _paired_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N,) IoU of paired (N, 4) boxes."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
