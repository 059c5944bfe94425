"""Geometry of boxes `(x_min, y_min, x_max, y_max)` in pixels. x_max and y_max are exclusive."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return (N,) areas in px² of (N, 4) boxes. An inverted box has area 0."""
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)


def pairwise_intersection(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return (N, M) intersection areas in px² of (N, 4) and (M, 4) boxes."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the (N, M) IoU in [0, 1] of (N, 4) and (M, 4) boxes."""
    inter = pairwise_intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def overlap_of_smaller(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the (N,) intersection of paired (N, 4) boxes as a share of the smaller one."""
    shared = np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1)
    smaller = np.minimum(area(a), area(b))
    return np.divide(area(shared), smaller, out=np.zeros(len(a)), where=smaller > 0)


def clip(boxes: Boxes, width: int, height: int) -> Boxes:
    """Clip (N, 4) boxes to a picture."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)


def at_edges(boxes: NDArray[np.floating], width: float, height: float, px: float) -> NDArray[np.bool_]:
    """Return (N, 4) bool: whether the left, upper, right and lower side of each of (N, 4) `boxes` is at most `px` away
    from that edge of the picture, or beyond it."""
    return np.concatenate([boxes[:, :2] <= px, boxes[:, 2:] >= np.array([width, height]) - px], axis=1)
