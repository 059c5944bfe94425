"""The aligned face: every face upright and of one size, eyes and mouth in the same places.

Pictures are (H, W, 3) uint8 RGB.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Picture

TEMPLATE_PX = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""(5, 2) px of 512: where left eye, right eye, nose, left and right corner of the mouth lie in FFHQ's alignment.

Source: facexlib, FaceRestoreHelper.face_template; GFPGAN was trained on faces that lie so.
"""
OUTSIDE = (135, 133, 132)
"""What stands for the world beyond the picture: RGB, the grey that facexlib takes."""

SHARPNESS_PX = 112
CONTRAST, NOISE = 40.0, 2.0
"""Standard deviations of grey values, 0..255: of a well-lit face, and of what is no more than noise in a dark one."""
_CORE = (slice(40, 92), slice(34, 78))  # of 112 px: from the brows to the lips, without hair, background and border


def align_face(
    picture: Picture,
    landmarks: NDArray[np.floating],
    size: int,
    template: NDArray[np.floating] = TEMPLATE / TEMPLATE_PX,
) -> Picture:
    """Turn, shift and scale the face with these (5, 2) landmarks, in px of `picture`, onto the template in `size` px.

    template: (5, 2), shares of `size`. Returns (size, size, 3). Enlarges bilinearly; shrinks by area first, so that no
    fine pattern turns coarse.
    """
    matrix = similarity(landmarks, template * size)
    shrink = int(1 / max(np.hypot(matrix[0, 0], matrix[1, 0]), 1e-6))
    if shrink >= 2:
        height, width = (max(1, side // shrink) for side in picture.shape[:2])
        steps = np.array([picture.shape[1] / width, picture.shape[0] / height])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        # In the small picture a point p lies at (p + .5) / step - .5, pixel centres being whole numbers.
        matrix = similarity((np.asarray(landmarks, np.float64) + 0.5) / steps - 0.5, template * size)
    aligned = cv2.warpAffine(picture, matrix, (size, size), borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE)
    return aligned.astype(np.uint8, copy=False)


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The (2, 3) rotation, scaling and shift, without mirroring, that brings (N, 2) `source` closest to `target`.

    Least squares in closed form, points read as complex numbers: target ≈ turn · source + shift. Where all source
    points coincide there is no such thing, and the result only shifts.
    """
    a, b = (np.asarray(points, np.float64) @ np.array([1, 1j]) for points in (source, target))
    a_mean, b_mean = a.mean(), b.mean()
    spread = np.sum(np.abs(a - a_mean) ** 2)
    turn = np.sum(np.conj(a - a_mean) * (b - b_mean)) / spread if spread > 0 else 1
    shift = b_mean - turn * a_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def face_sharpness(picture: Picture, landmarks: NDArray[np.floating]) -> float:
    """Variance of the Laplacian from brows to lips, aligned at 112 px, at even contrast; rounded to 0.1.

    Large faces are measured shrunk and small ones enlarged, and all as if their grey values had the standard deviation
    CONTRAST: it says how much detail there is, not how large or how well lit the face is. A face against the light is
    dim, yet not blurred.
    """
    grey = cv2.cvtColor(align_face(picture, landmarks, SHARPNESS_PX), cv2.COLOR_RGB2GRAY)
    detail = float(cv2.Laplacian(grey, cv2.CV_64F)[_CORE].var())
    return round(detail * CONTRAST**2 / (float(grey[_CORE].var()) + NOISE**2), 1)


def resize_face(face: Picture, size: int) -> Picture:
    """An aligned (S, S, 3) face at another, smaller size; it stays aligned."""
    if face.shape[:2] == (size, size):
        return face
    return cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
