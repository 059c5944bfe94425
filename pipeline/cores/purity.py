"""Find where a tracklet changes from one person to another, so that its appearance falls into two consecutive
groups.

A tracker swaps persons where two touch, and hardly ever elsewhere. The embeddings of a tracklet are collected in
windows of time. Neighbouring windows are merged, the most similar first, until only borders are left at which the
embedder's likeness shows that two people meet (bottom-up segmentation; Keogh, Chu, Hart and Pazzani 2001).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likeness, steadiness

WINDOW_NS = 500_000_000
"""Width of a window. A change of person is located to half a second."""
MIN_SIDE_NS = 1_000_000_000
"""Least time on each side of a border. In a shorter time somebody may just be occluded by another person."""
MIN_SIDE_LOOKS = 4
ODDS_AGAINST = 50.0
"""Prior odds, to one, against a change of person at a border where the person touched nobody. A tracklet has tens of
borders. On two MOT sequences OccluBoost changed person in none of 43 tracklets, and ByteTrack in 7 of 37."""
ODDS_AT_CONTACT = 10.0
"""The same near a contact. Between 20 and 2 hardly anything changes (docs/measured.md)."""
CONTACT = 0.1
"""Two people touch if their boxes share this part of the smaller one."""
CONTACT_WINDOWS = 2
"""A contact may be this many windows before a border or after it, because the tracker may swap later than at the
contact, and the embeddings of half-hidden people mix both."""
MAX_WINDOWS = 512
"""Most windows of a tracklet. Beyond that, pairs of windows are merged, so a person who stays for hours needs no
more memory."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """The appearance of one person's part of a tracklet.

    start: first frame.
    total: (D,) sum of weighted embeddings, not normalised.
    steadiness: see cores.likeness. nan if there are too few vectors.
    """

    start: int
    total: NDArray[np.float64]
    steadiness: float


class AppearanceLog:
    """Collects the embeddings of one tracklet in bounded memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._begun_ns: list[int] = []
        self._totals: list[NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._touched: list[bool] = []
        self._window_ns = WINDOW_NS
        self._end_ns = 0

    def add(self, frame: int, time_ns: int, vector: NDArray[np.floating], *, touches: bool = False) -> None:
        """Add the embedding of one detection. Its length is its weight. Frames rise.

        touches: whether the person touches another one.
        """
        if not self._starts or time_ns - self._begun_ns[-1] >= self._window_ns:
            if len(self._starts) >= MAX_WINDOWS:
                self._halve()
            self._starts.append(frame)
            self._begun_ns.append(time_ns)
            self._totals.append(np.zeros(len(vector)))
            self._counts.append(0)
            self._touched.append(False)
        self._touched[-1] |= touches
        self._totals[-1] += vector
        self._counts[-1] += 1
        self._end_ns = time_ns

    def _halve(self) -> None:
        self._window_ns *= 2
        self._totals = [sum(self._totals[i + 1 : i + 2], self._totals[i]) for i in range(0, len(self._totals), 2)]
        self._counts = [sum(self._counts[i : i + 2]) for i in range(0, len(self._counts), 2)]
        self._touched = [any(self._touched[i : i + 2]) for i in range(0, len(self._touched), 2)]
        self._starts, self._begun_ns = self._starts[::2], self._begun_ns[::2]

    def parts(self, likeness: Likeness | None) -> list[Appearance]:
        """Return the part of each person that the tracklet seems to contain, in order.

        There is one part if `likeness` is None, and none if nothing was added.
        """
        if not self._starts:
            return []
        totals, counts = np.array(self._totals), np.array(self._counts)
        begun_ns = np.append(self._begun_ns, self._end_ns)
        inner = _borders(totals, counts, begun_ns, self._log_odds(), likeness) if likeness else ()
        borders = [0, *inner, len(counts)]
        return [
            Appearance(self._starts[first], totals[first:end].sum(axis=0), steadiness(totals[first:end]))
            for first, end in pairwise(borders)
        ]

    def _log_odds(self) -> NDArray[np.float64]:
        """Return (W,) log odds, before anything is compared, against a change of person at the start of each window."""
        windows = np.ones(2 * CONTACT_WINDOWS, np.int64)
        near = np.convolve(self._touched, windows)[CONTACT_WINDOWS - 1 :][: len(self._touched)] > 0
        return np.log(np.where(near, ODDS_AT_CONTACT, ODDS_AGAINST))


def _borders(
    totals: NDArray[np.float64],
    counts: NDArray[np.int64],
    begun_ns: NDArray[np.int64],
    log_odds: NDArray[np.float64],
    likeness: Likeness,
) -> list[int]:
    """Return the rising indices of the windows at which another person begins.

    begun_ns: (W + 1,). The last is the end.
    log_odds: (W,), from AppearanceLog.
    """
    sums, sizes, edges = list(totals), counts.tolist(), begun_ns.tolist()
    borders = list(range(1, len(counts)))
    alike = [_similarity(total, following) for total, following in pairwise(sums)]
    while borders:
        short = (np.diff(edges) < MIN_SIDE_NS) | (np.array(sizes) < MIN_SIDE_LOOKS)
        # A part that is too short to decide joins its more similar neighbour. Then the surest merges come first.
        ratios = likeness.ratio(np.array(alike)) + log_odds[borders]
        ratios = np.where(short[:-1] | short[1:], np.inf, ratios)
        best = int(np.lexsort((-np.array(alike), -ratios))[0])
        if ratios[best] <= 0:
            break
        sums[best : best + 2] = [sums[best] + sums[best + 1]]
        sizes[best : best + 2] = [sizes[best] + sizes[best + 1]]
        del borders[best], edges[best + 1], alike[best]
        for place in (best - 1, best):
            if 0 <= place < len(alike):
                alike[place] = _similarity(sums[place], sums[place + 1])
    return borders


def _similarity(vector: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return round(float(vector @ other / max(np.linalg.norm(vector) * np.linalg.norm(other), 1e-12)), 3)
