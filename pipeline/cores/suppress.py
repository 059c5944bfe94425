"""Drop duplicate boxes of one body before tracking: one person, one box.

A detector's own suppression lets boxes through that overlap by less than its limit, and looks at one class and one
source at a time; two boxes of one body become two tracklets that are seen together, and can never be joined again.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.boxes import Boxes, area, pairwise_intersection, pairwise_iou

CONTAINED = 0.9
"""A weaker box of which so much lies inside a surer one is a part of the same body …"""
SIMILAR_HEIGHT = 0.8
"""… if it is at least so high as the surer one: a child in front of an adult is lower, a neighbour stands beside."""

SAME_UPPER_PART = 0.85
"""Two boxes whose upper parts overlap so much are half a body and the whole of it. Two people who stand one behind the
other reach .8."""
PART_SCORE = 0.5
"""Two boxes at least so sure …"""
PART_WIDTH = 0.8
"""… each at most so wide as a third …"""
PART_INSIDE = 0.85
"""… that holds so much of each …"""
PART_OVERLAP = 0.45
"""… and that overlap one another by at most so much …"""
PARTS_COVER = 0.8
"""… are two people if they cover so much of the third, which shows nobody else."""


def suppress(detections: Detections, duplicate_iou: float) -> NDArray[np.int64]:
    """Indices of the detections to keep, ascending.

    Greedy, surest first; of equal scores the one further left, then further up, goes first. A box is dropped where a
    surer kept one overlaps it by `duplicate_iou` or more, nearly contains it at a similar height, or has the same upper
    part: half a body and the whole one share head and shoulders, two people do not. A box without width or height is
    nobody, and BoxMOT refuses it: the detectors here give none, but what is stored may have one.

    Before that, a box goes that two narrower ones of similar height cover side by side: it is around two people.
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
    """(N,) whether two other boxes cover each box between them, side by side."""
    boxes, scores = detections.boxes, detections.scores
    sizes = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    areas = area(boxes)
    shared = pairwise_intersection(boxes, boxes)
    is_part = (shared >= PART_INSIDE * areas[None, :]) & (sizes[None, :, 0] <= PART_WIDTH * sizes[:, None, 0])
    is_part &= sizes[None, :, 1] >= SIMILAR_HEIGHT * sizes[:, None, 1]
    is_part &= (areas > 0) & (scores >= np.float32(PART_SCORE))
    found = np.zeros(len(boxes), np.bool_)
    for around in np.flatnonzero(is_part.sum(axis=1) >= 2):
        parts = np.flatnonzero(is_part[around])
        inside = np.concatenate(
            [np.maximum(boxes[parts, :2], boxes[around, :2]), np.minimum(boxes[parts, 2:], boxes[around, 2:])], axis=1
        )
        covered = area(inside)[:, None] + area(inside)[None, :] - pairwise_intersection(inside, inside)
        apart = pairwise_iou(boxes[parts], boxes[parts]) <= PART_OVERLAP
        found[around] = (apart & (covered >= PARTS_COVER * areas[around])).any()
    return found


def _iou_of_upper_parts(boxes: Boxes) -> NDArray[np.float32]:
    """(N, N) overlap of each pair of (N, 4) boxes, both cut off below at the height of the lower one."""
    tops, heights = boxes[:, 1], np.clip(boxes[:, 3] - boxes[:, 1], 0, None)
    lower = np.minimum(heights[:, None], heights[None, :])
    shared_height = np.clip(lower - np.abs(tops[:, None] - tops[None, :]), 0, None)
    shared_width = np.minimum(boxes[:, None, 2], boxes[None, :, 2]) - np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    shared = np.clip(shared_width, 0, None) * shared_height
    widths = np.clip(boxes[:, 2] - boxes[:, 0], 0, None)
    union = (widths[:, None] + widths[None, :]) * lower - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
