"""The groups of tracklets that are one person so far."""

from bisect import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Groups:
    """The groups of tracklets that are one person so far, and the frames of each group.

    of: (N,) the group of each tracklet.
    num_beside: (N,) how many tracklets share time with a tracklet of a group, at least.
    """

    def __init__(self, intervals: Sequence[NDArray[np.int64]]) -> None:
        self.of = np.arange(len(intervals))
        self._borders: list[list[int]] = [runs.ravel().tolist() for runs in intervals]
        self._first = np.array([runs[0, 0] for runs in intervals], np.int64)
        self._end = np.array([runs[-1, 1] for runs in intervals], np.int64)
        self.num_beside = num_beside(intervals)
        self._together: list[dict[int, bool]] = [{} for _ in intervals]

    def share_frames(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (P,) bool: whether two groups share a frame. Then they are two people."""
        shares = (self._end[a] > self._first[b]) & (self._end[b] > self._first[a])
        near = np.flatnonzero(shares)
        pairs = zip(a[near].tolist(), b[near].tolist(), strict=True)
        shares[near] = [self._share_a_frame(*pair) for pair in pairs]
        return shares

    def _share_a_frame(self, a: int, b: int) -> bool:
        known = self._together[a].get(b)
        if known is None:
            known = _overlap(self._borders[a], self._borders[b])
            self._together[a][b] = self._together[b][a] = known
        return known

    def merge(self, a: int, b: int) -> None:
        """Merge two groups into one person, unless they share a frame."""
        if self._share_a_frame(a, b):
            return
        keep, gone = min(a, b), max(a, b)
        apart = {other for group in (keep, gone) for other, shares in self._together[group].items() if shares}
        for group in (keep, gone):
            for other in self._together[group]:
                del self._together[other][group]
            self._together[group] = {}
        for other in apart:  # a group that shares a frame with one of them shares a frame with both
            self._together[keep][other] = self._together[other][keep] = True

        borders = self._borders[keep] = sorted(self._borders[keep] + self._borders[gone])
        self._first[keep], self._end[keep] = borders[0], borders[-1]
        self.num_beside[keep] = min(self.num_beside[keep], self.num_beside[gone])
        self.of[self.of == gone] = keep


def num_beside(intervals: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return (N,) int64: with how many others each tracklet shares time, from its first frame to its last."""
    first = np.array([runs[0, 0] for runs in intervals], np.int64)
    end = np.array([runs[-1, 1] for runs in intervals], np.int64)
    return np.searchsorted(np.sort(first), end) - np.searchsorted(np.sort(end), first, side="right") - 1


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether two rising lists of half-open intervals, start, end, start, end…, have a common frame."""
    fewer, more = (a, b) if len(a) < len(b) else (b, a)
    for start, end in zip(fewer[::2], fewer[1::2], strict=True):
        place = bisect(more, start)
        if place % 2 or (place < len(more) and more[place] < end):
            return True
    return False
