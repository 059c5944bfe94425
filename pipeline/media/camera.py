"""Measure how the camera moved between two frames, from their thumbnails.

Sparse optical flow (Lucas and Kanade, in pyramids) follows corners, and RANSAC fits one similarity to most of them,
as in BoxMOT's sparse optical flow. People move differently and are outvoted. The result depends on the two
thumbnails alone.
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

CORNERS = {"maxCorners": 96, "qualityLevel": 0.01, "minDistance": 5, "blockSize": 3}
"""Of the thumbnail at half its size, which has the same corners for a quarter of the work."""
FLOW = {
    "winSize": (9, 9),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
}
"""On known motions of real pictures this is as exact as BoxMOT's 300 corners and windows of 21 px, in an eighth of the
time (docs/decisions/0041-decoding.md)."""
OUTLIER_PX = 1.0
MIN_CORNERS = 8
MIN_SHARE = 0.2
"""Least share of the corners that must agree, as in BoxMOT. At a cut fewer agree."""
STILL_PX = 0.5
"""The camera stands still if every corner moves less, in px. Otherwise small errors would add up."""


def camera_motion(earlier: MatLike, later: MatLike) -> NDArray[np.float64] | None:
    """Return the (2, 3) similarity that maps px of an (h, w) uint8 thumbnail to px of a later one.

    Returns None if the camera stands still, or if too few corners can be followed.
    """
    corners = _corners(earlier)
    if len(corners) < MIN_CORNERS:
        return None
    moved, status, _ = cv2.calcOpticalFlowPyrLK(earlier, later, corners, None, **FLOW)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if cv2.countNonZero(status) < len(corners):
        is_followed = status.ravel() == 1
        corners, moved = corners[is_followed], moved[is_followed]
    if len(corners) < MIN_CORNERS:
        return None
    similarity, inliers = cv2.estimateAffinePartial2D(
        corners, moved, method=cv2.RANSAC, ransacReprojThreshold=OUTLIER_PX
    )
    num_inliers = 0 if similarity is None else cv2.countNonZero(inliers)
    if num_inliers < max(MIN_CORNERS, MIN_SHARE * len(corners)):
        return None
    height, width = earlier.shape
    moved_px = _largest_shift(similarity.tolist(), width, height)
    return None if moved_px < STILL_PX else np.asarray(similarity, np.float64)


def _largest_shift(similarity: list[list[float]], width: int, height: int) -> float:
    """Return the most px by which a corner of the picture moves to the right, left, up or down."""
    (a, b, right), (c, d, down) = similarity
    corners = [(x, y) for x in (0, width) for y in (0, height)]
    return max(max(abs((a - 1) * x + b * y + right), abs(c * x + (d - 1) * y + down)) for x, y in corners)


def _corners(picture: MatLike) -> NDArray[np.float32]:
    """Return the (N, 1, 2) px of corners that can be followed."""
    height, width = picture.shape
    half = cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    corners = cv2.goodFeaturesToTrack(half, **CORNERS)
    return np.zeros((0, 1, 2), np.float32) if corners is None else np.asarray(2 * corners + 0.5, np.float32)
