"""What an estimator may see of a body: the crop of one person, in which other people and all faces are black.

The rules are those of MiVOLO's authors. A black part that comes close to the border of the crop is widened to the
border, and a border that is nearly black is cut off. If too little remains, there is no crop.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, pairwise_intersection, pairwise_iou

SAME_IOU = 0.7
"""Boxes that overlap more are the same person."""
MIN_SIDE_PX = 50
"""A body whose box is smaller is not judged."""
NEAR_BORDER = 0.3
"""Share of a side. A black part of another person that begins or ends nearer to a border is widened to it. A row or
column is cut off if less than this share of it shows something."""
MIN_REST = 0.4
"""Smallest share of the crop that must remain."""


@dataclass(frozen=True, slots=True)
class BodyCut:
    """How to cut one body out of its crop.

    black: (K, 4) int64 xyxy px of the crop. These parts are black.
    rest: left, top, right, bottom, px of the crop. This part is kept.
    share: of the crop that shows something, in [0, 1].
    """

    black: NDArray[np.int64]
    rest: tuple[int, int, int, int]
    share: float


def cut_body(
    boxes: Boxes,
    scores: NDArray[np.floating],
    index: int,
    faces: Boxes,
    corner: NDArray[np.floating],
    scale: float,
    size: tuple[int, int],
    min_score: float,
) -> BodyCut | None:
    """Return how to cut the body with this `index` among a frame's (N, 4) boxes out of its crop, or None if too little
    of it shows.

    scores: (N,) of the boxes.
    faces: (F, 4). All faces of the frame.
    corner, scale: a point p of the picture is at (p - corner) * scale in the crop.
    size: width and height of the crop in px.
    min_score: weaker boxes hide nobody, because many are parts or duplicates of others.
    """
    box = boxes[index]
    if np.round(box[2:] - box[:2], 1).min() < MIN_SIDE_PX:
        return None
    iou = np.round(pairwise_iou(box[None], boxes)[0], 3)
    is_other = (np.round(scores, 3) >= np.float32(min_score)) & (iou < SAME_IOU) & (iou > 0)
    is_other[index] = False
    touches = pairwise_intersection(box[None], faces)[0] > 0
    black = np.concatenate(
        [
            _widened(_inside(boxes[is_other], corner, scale, size), size),
            _inside(faces[touches], corner, scale, size),
        ]
    )
    mask = np.zeros((size[1], size[0]), bool)
    for left, top, right, bottom in black.tolist():
        mask[top:bottom, left:right] = True
    rest = _trimmed(mask)
    if rest is None:
        return None
    left, top, right, bottom = rest
    if (right - left) * (bottom - top) < MIN_REST * mask.size:
        return None
    return BodyCut(black, rest, round(1 - float(mask.mean()), 3))


def _inside(boxes: Boxes, corner: NDArray[np.floating], scale: float, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return (N, 4) boxes in whole pixels inside the crop."""
    moved = (boxes.astype(np.float64).reshape(-1, 2, 2) - corner) * scale
    return np.rint(np.round(moved, 1)).astype(np.int64).clip(0, size).reshape(-1, 4)


def _widened(boxes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return boxes whose edges near a border of the crop lie on it."""
    sizes = np.array(size)
    start, end = boxes[:, :2], boxes[:, 2:]
    return np.hstack(
        [
            np.where(start < NEAR_BORDER * sizes, 0, start),
            np.where(sizes - end < NEAR_BORDER * sizes, sizes, end),
        ]
    )


def _trimmed(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return the part that is left when nearly black borders of a mask of black pixels are cut off."""
    rows, columns = (np.flatnonzero(mask.mean(axis=axis) <= 1 - NEAR_BORDER) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
