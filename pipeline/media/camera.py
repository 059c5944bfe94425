"""Measure how the camera moved between two frames, from their thumbnails.

Sparse optical flow (Lucas and Kanade, in pyramids) follows corners, and RANSAC fits one similarity to most of them,
as in BoxMOT's sparse optical flow. People move differently and are outvoted. The result depends on the two
thumbnails alone.
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

CORNERS = {"maxCorners": 300, "qualityLevel": 0.01, "minDistance": 5, "blockSize": 3}
FLOW = {
    "winSize": (21, 21),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
}
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
    corners = cv2.goodFeaturesToTrack(earlier, **CORNERS)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, status, _ = cv2.calcOpticalFlowPyrLK(earlier, later, corners, None, **FLOW)  # pyright: ignore[reportCallIssue, reportArgumentType]
    is_followed = status.ravel() == 1
    if is_followed.sum() < MIN_CORNERS:
        return None
    similarity, inliers = cv2.estimateAffinePartial2D(
        corners[is_followed], moved[is_followed], method=cv2.RANSAC, ransacReprojThreshold=OUTLIER_PX
    )
    if similarity is None or inliers.sum() < MIN_CORNERS or inliers.mean() < MIN_SHARE:
        return None
    height, width = earlier.shape
    ends = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    shift = ends @ similarity[:, :2].T + similarity[:, 2] - ends
    return None if np.abs(shift).max() < STILL_PX else np.asarray(similarity, np.float64)
