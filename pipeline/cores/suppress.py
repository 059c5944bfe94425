"""Drop duplicate boxes of one body before tracking: one person, one box.

A detector's own suppression lets boxes through that overlap by less than its limit, and looks at one class and one
source at a time; two boxes of one body become two tracklets that are seen together, and can never be joined again.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.boxes import area, pairwise_intersection, pairwise_iou

CONTAINED = 0.9
"""A weaker box of which so much lies inside a surer one is a part of the same body …"""
SIMILAR_HEIGHT = 0.8
"""… if it is at least so high as the surer one: a child in front of an adult is lower, a neighbour stands beside."""


def suppress(detections: Detections, duplicate_iou: float) -> NDArray[np.int64]:
    """Indices of the detections to keep, ascending.

    Greedy, surest first; of equal scores the one further left, then further up, goes first. A box is dropped where a
    surer kept one overlaps it by `duplicate_iou` or more, or nearly contains it at a similar height. A box without
    width or height is nobody, and BoxMOT refuses it: the detectors here give none, but what is stored may have one.
    """
    boxes, scores = detections.boxes, detections.scores
    iou = pairwise_iou(boxes, boxes)
    areas, heights = area(boxes), boxes[:, 3] - boxes[:, 1]
    inside = pairwise_intersection(boxes, boxes) >= CONTAINED * areas[None, :]
    duplicate = (iou >= duplicate_iou) | (inside & (heights[None, :] >= SIMILAR_HEIGHT * heights[:, None]))
    order = np.lexsort((boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))
    kept: list[int] = []
    for index in order[area(boxes[order]) > 0]:
        if not duplicate[kept, index].any():
            kept.append(int(index))
    return np.array(sorted(kept), np.int64)
