"""Find where a tracklet goes over from one person to another: its looks then fall into two groups, one after the other.

A tracker that follows by place alone changes persons where two cross. The embeddings of a tracklet are gathered in
windows of time, and neighbours are put together, the most alike first, until all that is left are borders at which the
embedder's likeness says that two people meet (bottom-up segmentation; Keogh, Chu, Hart and Pazzani 2001).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likeness, steadiness

WINDOW_NS = 500_000_000
"""A change of person is found to half a second."""
MIN_SIDE_NS = 1_000_000_000
"""Whoever is seen for a shorter time on one side of a border may just have been covered by someone else."""
MIN_SIDE_LOOKS = 4
ODDS_AGAINST = 50.0
"""To one, against a tracklet that changes person at a border: it does where the looks make it likelier than not. A
tracklet has tens of borders; on two MOT sequences OccluBoost changed person in none of 43, ByteTrack in 7 of 37."""
MAX_WINDOWS = 512
"""Of one tracklet; then two and two become one, so that someone who stays for hours costs no more memory."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one person's part of a tracklet looks. start: its first frame. total: (D,) sum of unit vectors, not normed.

    steadiness: see cores.likeness; nan where there is too little.
    """

    start: int
    total: NDArray[np.float64]
    steadiness: float


class Looks:
    """The embeddings of one tracklet, as they come, in bounded memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._begun_ns: list[int] = []
        self._totals: list[NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._window_ns = WINDOW_NS
        self._end_ns = 0

    def add(self, frame: int, time_ns: int, vector: NDArray[np.float32]) -> None:
        """One detection's unit vector; frames rise."""
        if not self._starts or time_ns - self._begun_ns[-1] >= self._window_ns:
            if len(self._starts) >= MAX_WINDOWS:
                self._halve()
            self._starts.append(frame)
            self._begun_ns.append(time_ns)
            self._totals.append(np.zeros(len(vector)))
            self._counts.append(0)
        self._totals[-1] += vector
        self._counts[-1] += 1
        self._end_ns = time_ns

    def _halve(self) -> None:
        self._window_ns *= 2
        self._totals = [sum(self._totals[i + 1 : i + 2], self._totals[i]) for i in range(0, len(self._totals), 2)]
        self._counts = [sum(self._counts[i : i + 2]) for i in range(0, len(self._counts), 2)]
        self._starts, self._begun_ns = self._starts[::2], self._begun_ns[::2]

    def parts(self, likeness: Likeness | None) -> list[Look]:
        """One for each person that the tracklet seems to be, in order; a single one where `likeness` is None.

        Empty where nothing was added.
        """
        if not self._starts:
            return []
        totals, counts = np.array(self._totals), np.array(self._counts)
        begun_ns = np.append(self._begun_ns, self._end_ns)
        borders = [0, *(_borders(totals, counts, begun_ns, likeness) if likeness else ()), len(counts)]
        return [
            Look(self._starts[first], totals[first:end].sum(axis=0), steadiness(totals[first:end]))
            for first, end in pairwise(borders)
        ]


def _borders(
    totals: NDArray[np.float64], counts: NDArray[np.int64], begun_ns: NDArray[np.int64], likeness: Likeness
) -> list[int]:
    """Rising indices of the windows with which another person begins. begun_ns: (W + 1,), the last is the end."""
    sums, looks, edges = list(totals), counts.tolist(), begun_ns.tolist()
    borders = list(range(1, len(counts)))
    alike = [_similarity(one, following) for one, following in pairwise(sums)]
    while borders:
        short = (np.diff(edges) < MIN_SIDE_NS) | (np.array(looks) < MIN_SIDE_LOOKS)
        # Whoever is too short to be asked goes to the neighbour that is more alike; then the surest go first.
        ratios = np.where(short[:-1] | short[1:], np.inf, likeness.ratio(np.array(alike)))
        best = int(np.lexsort((-np.array(alike), -ratios))[0])
        if ratios[best] <= -np.log(ODDS_AGAINST):
            break
        sums[best : best + 2] = [sums[best] + sums[best + 1]]
        looks[best : best + 2] = [looks[best] + looks[best + 1]]
        del borders[best], edges[best + 1], alike[best]
        for place in (best - 1, best):
            if 0 <= place < len(alike):
                alike[place] = _similarity(sums[place], sums[place + 1])
    return borders


def _similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return round(float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-12)), 3)
