"""Choose where the tracklets of a video are cut, for benches of linking."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tests.bench.footage import Footage

SIDE_S = 1.0
"""Least time that is left on either side of a gap."""
SIDE_BOXES = 4
COVERED = 0.3
"""Least share of a box that another box covers at an occlusion."""
BORDER_PX = 3.0
SHARE = 3
"""One in so many tracklets is cut in a round."""

Cut = tuple[int, float, NDArray[np.int64], NDArray[np.int64]]
"""A tracklet, the length of its gap in s, and the places of its boxes before and after the gap."""


class Cutter:
    """Cuts the tracklets of one video."""

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        knots = footage.knots
        self.times_s = footage.times_ns[knots.frames] / 1e9
        self.step_s = float(np.median(np.diff(footage.times_ns[footage.analysed]))) / 1e9
        self.count = len(footage.shot_of)
        self.borders: list[int] = np.searchsorted(knots.tracklets, np.arange(self.count + 1)).tolist()
        self.is_covered, self.touches = self._covered(), self._touches()
        self.together = self._together()
        heights = knots.boxes[:, 3] - knots.boxes[:, 1]
        centres = footage.steady.boxes(knots.frames, knots.boxes)
        centres = (centres[:, :2] + centres[:, 2:]) / 2
        crowd = np.bincount(knots.frames, minlength=len(footage.times_ns))[knots.frames] - 1
        self.heights = heights
        self.speeds = np.zeros(self.count)
        self.crowds = np.zeros(self.count)
        for index, (first, end) in enumerate(zip(self.borders[:-1], self.borders[1:], strict=True)):
            steps = np.linalg.norm(np.diff(centres[first:end], axis=0), axis=1) / np.diff(self.times_s[first:end])
            self.speeds[index] = np.median(steps / heights[first + 1 : end]) if end - first > 1 else 0
            self.crowds[index] = np.median(crowd[first:end])

    def _covered(self) -> NDArray[np.bool_]:
        """Return (K,) bool: whether a box that stands lower in the picture covers COVERED of the box."""
        knots = self.footage.knots
        covered = np.zeros(len(knots), np.bool_)
        order = np.argsort(knots.frames, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(knots.frames[order])) + 1):
            boxes = knots.boxes[places].astype(np.float64)
            shared = _intersections(boxes)
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            in_front = boxes[None, :, 3] > boxes[:, None, 3]
            np.fill_diagonal(shared, 0)
            covered[places] = ((shared / areas[:, None] >= COVERED) & in_front).any(axis=1)
        return covered

    def _touches(self) -> NDArray[np.bool_]:
        boxes, (width, height) = self.footage.knots.boxes, self.footage.size
        return (
            (boxes.min(axis=1) <= BORDER_PX) | (boxes[:, 2] >= width - BORDER_PX) | (boxes[:, 3] >= height - BORDER_PX)
        )

    def _together(self) -> NDArray[np.bool_]:
        """Return (T, T) bool: whether two tracklets share an analysed frame."""
        knots = self.footage.knots
        there = np.zeros((self.count, len(self.footage.times_ns)), np.bool_)
        there[knots.tracklets, knots.frames] = True
        return (there.astype(np.float32) @ there.T.astype(np.float32)) > 0

    def gaps(self, placement: str, gap_s: float, generator: np.random.Generator) -> Iterator[Cut]:
        """Yield the tracklets that are cut in one round."""
        chosen = generator.permutation(self.count)
        left = 2 * -(-self.count // SHARE)
        for index in chosen.tolist():
            if not left:
                return
            places = np.arange(self.borders[index], self.borders[index + 1])
            times_s = self.times_s[places]
            low, high = times_s[0] + SIDE_S, times_s[-1] - SIDE_S - gap_s
            starts = self._starts(placement, places, gap_s)
            starts = starts[(starts >= low) & (starts <= high)]
            if not len(starts):
                continue
            start = float(generator.choice(starts))
            # The gap is at most gap_s long, so a limit of so many seconds includes it.
            before, after = places[times_s <= start], places[times_s > start + gap_s - self.step_s]
            if min(len(before), len(after)) >= SIDE_BOXES:
                left -= 1
                yield index, float(times_s[after[0] - places[0]] - times_s[before[-1] - places[0]]), before, after

    def _starts(self, placement: str, places: NDArray[np.int64], gap_s: float) -> NDArray[np.float64]:
        if placement not in ("occlusion", "border"):
            return self.times_s[places]
        events = self.is_covered if placement == "occlusion" else self.touches
        return self.times_s[places[events[places]]] - gap_s / 2


def _intersections(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)
