"""Choose the people who keep the embedding of an earlier frame of the cell.

A person who overlaps nobody looks the same some tenths of a second later, so another embedding of them would say
nothing new. Where people overlap, every frame counts: there the tracker and the division of tracklets compare
appearances. Everything happens inside one cell, and values are rounded before they decide.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, pairwise_intersection, pairwise_iou

MIN_IOU = 0.5
"""Least overlap of a person's boxes in two neighbouring analysed frames."""
MAX_COVERED = 0.3
"""Largest share of a person's box that another box may cover.

With both values and half a second, 45 and 57 % of the detections of PETS09-S2L1 and TUD-Stadtmitte need an embedding
of their own, at the same IDF1 (docs/measured.md)."""


@dataclass(frozen=True, slots=True)
class EmbeddedPeople:
    """The N people of one analysed frame, and the embeddings that stand for them.

    cell: of the frame.
    step: number of the frame within the cell. Neighbours differ by one, and a cut skips a number.
    boxes: (N, 4) float32 xyxy px.
    is_lone: (N,) bool. Whether the others leave the person uncovered.
    sources: (N,) int64. Number of the detection whose embedding each person has.
    sources_ns: (N,) int64 ns. When that detection was seen.
    """

    cell: int
    step: int
    boxes: Boxes
    is_lone: NDArray[np.bool_]
    sources: NDArray[np.int64]
    sources_ns: NDArray[np.int64]

    @classmethod
    def nobody(cls) -> Self:
        """Return the people before the first frame."""
        numbers = np.zeros(0, np.int64)
        return cls(-1, -1, np.zeros((0, 4), np.float32), np.zeros(0, bool), numbers, numbers)

    def followed_by(self, cell: int, step: int, time_ns: int, boxes: Boxes, first: int, reuse_ns: int) -> Self:
        """Return the people of the next analysed frame.

        first: number of its first detection. Who needs an embedding has its own number as the source.
        reuse_ns: an embedding stands for a person for less than this time.
        """
        sources = np.arange(first, first + len(boxes))
        sources_ns = np.full(len(boxes), time_ns)
        is_lone = _is_lone(boxes)
        if cell == self.cell and step == self.step + 1 and len(boxes) and len(self.boxes):
            iou = np.round(pairwise_iou(self.boxes, boxes).astype(np.float64), 3)
            before = iou.argmax(axis=0)
            is_same = (iou.argmax(axis=1)[before] == np.arange(len(boxes))) & (iou.max(axis=0) >= MIN_IOU)
            keeps = is_same & is_lone & self.is_lone[before] & (time_ns - self.sources_ns[before] < reuse_ns)
            sources = np.where(keeps, self.sources[before], sources)
            sources_ns = np.where(keeps, self.sources_ns[before], sources_ns)
        return type(self)(cell, step, boxes, is_lone, sources, sources_ns)


def _is_lone(boxes: Boxes) -> NDArray[np.bool_]:
    covered = pairwise_intersection(boxes, boxes) / np.maximum(area(boxes), 1e-6)[:, None]
    np.fill_diagonal(covered, 0)
    return np.round(covered.max(axis=1, initial=0), 3) <= MAX_COVERED
