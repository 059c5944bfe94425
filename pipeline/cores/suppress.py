"""Drop duplicate boxes of a body before tracking, so that one person has one box.

A detector's own suppression keeps boxes that overlap by less than its limit, and treats one class and one source at
a time. Two boxes of one body become two tracklets that share frames, and these can never be joined.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.boxes import Boxes, area, pairwise_intersection, pairwise_iou

CONTAINED = 0.9
"""A weaker box with this share of its area inside a surer one may be a part of the same body."""
SIMILAR_HEIGHT = 0.8
"""It is a part if its height is at least this share of the surer one's. A child in front of an adult is lower, and a
neighbour stands beside."""

SAME_UPPER_PART = 0.85
"""Two boxes whose upper parts have this IoU are half a body and the whole of it. Two people one behind the other
reach .8."""
PART_SCORE = 0.5
"""Lowest score of each of two boxes that can show that a third box is around two people."""
PART_WIDTH = 0.8
"""Largest width of each of the two, as a share of the third box's width."""
PART_INSIDE = 0.85
"""Smallest share of each of the two that lies inside the third box."""
PART_OVERLAP = 0.45
"""Largest IoU of the two boxes."""
PARTS_COVER = 0.8
"""Smallest share of the third box that the two cover. Then it shows nobody else."""


def suppress(detections: Detections, duplicate_iou: float) -> NDArray[np.int64]:
    """Return the ascending indices of the detections to keep.

    First, a box is dropped if two narrower boxes of similar height cover it side by side, because it is around two
    people.

    The rest is greedy, surest first. Of equal scores the box further left, then further up, comes first. A box is
    dropped if a surer kept box overlaps it by `duplicate_iou` or more, nearly contains it at a similar height, or
    has the same upper part. Half a body and the whole one share head and shoulders, and two people do not. A box
    without width or height is dropped, because BoxMOT refuses it. The detectors here give none, but stored
    detections may contain one.
    """
    boxes, scores = detections.boxes, detections.scores
    iou = pairwise_iou(boxes, boxes)
    areas, heights = area(boxes), boxes[:, 3] - boxes[:, 1]
    inside = pairwise_intersection(boxes, boxes) >= CONTAINED * areas[None, :]
    duplicate = (iou >= duplicate_iou) | (_iou_of_upper_parts(boxes) >= SAME_UPPER_PART)
    duplicate |= inside & (heights[None, :] >= SIMILAR_HEIGHT * heights[:, None])
    order = np.lexsort((boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))
    kept: list[int] = []
    for index in order[(areas[order] > 0) & ~_is_around_two(detections)[order]]:
        if not duplicate[kept, index].any():
            kept.append(int(index))
    return np.array(sorted(kept), np.int64)


def _is_around_two(detections: Detections) -> NDArray[np.bool_]:
    """Return (N,) bool: whether two other boxes side by side cover each box."""
    boxes, scores = detections.boxes, detections.scores
    sizes = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    areas = area(boxes)
    shared = pairwise_intersection(boxes, boxes)
    is_part = (shared >= PART_INSIDE * areas[None, :]) & (sizes[None, :, 0] <= PART_WIDTH * sizes[:, None, 0])
    is_part &= sizes[None, :, 1] >= SIMILAR_HEIGHT * sizes[:, None, 1]
    is_part &= (areas > 0) & (scores >= np.float32(PART_SCORE))
    is_around = np.zeros(len(boxes), np.bool_)
    for around in np.flatnonzero(is_part.sum(axis=1) >= 2):
        parts = np.flatnonzero(is_part[around])
        inside = np.concatenate(
            [np.maximum(boxes[parts, :2], boxes[around, :2]), np.minimum(boxes[parts, 2:], boxes[around, 2:])], axis=1
        )
        covered = area(inside)[:, None] + area(inside)[None, :] - pairwise_intersection(inside, inside)
        apart = pairwise_iou(boxes[parts], boxes[parts]) <= PART_OVERLAP
        is_around[around] = (apart & (covered >= PARTS_COVER * areas[around])).any()
    return is_around


def _iou_of_upper_parts(boxes: Boxes) -> NDArray[np.float32]:
    """Return the (N, N) IoU of (N, 4) boxes, where both boxes of a pair are cut off at the height of the lower one."""
    tops, heights = boxes[:, 1], np.clip(boxes[:, 3] - boxes[:, 1], 0, None)
    lower = np.minimum(heights[:, None], heights[None, :])
    shared_height = np.clip(lower - np.abs(tops[:, None] - tops[None, :]), 0, None)
    shared_width = np.minimum(boxes[:, None, 2], boxes[None, :, 2]) - np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    shared = np.clip(shared_width, 0, None) * shared_height
    widths = np.clip(boxes[:, 2] - boxes[:, 0], 0, None)
    union = (widths[:, None] + widths[None, :]) * lower - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
