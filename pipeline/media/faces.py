"""Aligned faces: upright and of one size, with eyes and mouth in the same places.

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
"""(5, 2) px of 512: left eye, right eye, nose, left and right corner of the mouth in FFHQ's alignment.

Source: facexlib, FaceRestoreHelper.face_template. GFPGAN was trained on faces aligned this way.
"""
OUTSIDE = (135, 133, 132)
"""Fill colour beyond the picture, RGB: facexlib's grey."""

SHARPNESS_PX = 112
CONTRAST, NOISE = 40.0, 2.0
"""Standard deviations of grey values, 0..255: of a well-lit face, and of the noise in a dark one."""
FLAT = 0.3
"""Grey values that rounding to whole numbers leaves. A face without more has no detail."""
DETAIL_SHARE = 0.7
_CORE = (slice(40, 92), slice(34, 78))  # of 112 px: from the brows to the lips, without hair, background and border


def align_face(
    picture: Picture,
    landmarks: NDArray[np.floating],
    size: int,
    template: NDArray[np.floating] = TEMPLATE / TEMPLATE_PX,
    *,
    bicubic: bool = False,
) -> Picture:
    """Rotate, shift and scale the face with these (5, 2) landmarks, in px of `picture`, onto the template in `size`
    px.

    Returns (size, size, 3). Shrinking averages areas first, so fine patterns do not become coarse.

    template: (5, 2), shares of `size`.
    bicubic: enlarge with more of the detail than bilinearly. Estimators are better for it. Restorers were trained
        without, and the constants of face_sharpness and face_detail were fitted without.
    """
    matrix = similarity(landmarks, template * size)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    shrink = int(1 / max(scale, 1e-6))
    if shrink >= 2:
        height, width = (max(1, side // shrink) for side in picture.shape[:2])
        steps = np.array([picture.shape[1] / width, picture.shape[0] / height])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        # A point p of the picture lies at (p + .5) / step - .5 of the small one, with whole numbers at pixel centres.
        matrix = similarity((np.asarray(landmarks, np.float64) + 0.5) / steps - 0.5, template * size)
    method = cv2.INTER_CUBIC if bicubic and scale > 1 else cv2.INTER_LINEAR
    aligned = cv2.warpAffine(
        picture, matrix, (size, size), flags=method, borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE
    )
    return aligned.astype(np.uint8, copy=False)


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (2, 3) rotation, scaling and shift, without mirroring, that brings (N, 2) `source` closest to
    `target`.

    It is the least squares solution in closed form, with points as complex numbers: target ≈ turn · source + shift.
    If all source points coincide, the result only shifts.
    """
    a, b = (np.asarray(points, np.float64) @ np.array([1, 1j]) for points in (source, target))
    a_mean, b_mean = a.mean(), b.mean()
    spread = np.sum(np.abs(a - a_mean) ** 2)
    turn = np.sum(np.conj(a - a_mean) * (b - b_mean)) / spread if spread > 0 else 1
    shift = b_mean - turn * a_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def face_sharpness(picture: Picture, landmarks: NDArray[np.floating]) -> float:
    """Return the variance of the Laplacian from brows to lips, aligned at 112 px, at even contrast, rounded to 0.1.

    Large faces are shrunk and small ones enlarged, and grey values are scaled to the standard deviation CONTRAST. So
    the value measures the detail, not the size or the light. A backlit face is dim, yet not blurred.
    """
    grey = cv2.cvtColor(align_face(picture, landmarks, SHARPNESS_PX), cv2.COLOR_RGB2GRAY)
    detail = float(cv2.Laplacian(grey, cv2.CV_64F)[_CORE].var())
    return round(detail * CONTRAST**2 / (float(grey[_CORE].var()) + NOISE**2), 1)


def face_detail(picture: Picture, landmarks: NDArray[np.floating]) -> float:
    """Return a face's fine detail from brows to lips relative to detail of the size of its eyes, rounded to 0.001.

    Two bands of the aligned face at 112 px are compared: the differences of Gaussians of 2 and 4 px, and of 4 and 8
    px. The size of a band is the one that DETAIL_SHARE of its pixels stay below, so that an edge of hair or
    background does not count for the rest. The result is the first size over the second. Nine in ten of UTKFace's
    faces have 0.63 to 0.99 at full size, 0.54 to 0.77 at 16 px, 0.50 to 0.72 at 12 px, 0.39 to 0.60 at 8 px and 0.34
    to 0.53 at 6 px. Unlike the sharpness, it ignores noise, JPEG blocks and contrast: beneath them, a face that
    somebody has made unrecognisable is smooth.
    """
    grey = cv2.cvtColor(align_face(picture, landmarks, SHARPNESS_PX), cv2.COLOR_RGB2GRAY).astype(np.float64)
    fine, middle, coarse = (cv2.GaussianBlur(grey, (0, 0), blur_px)[_CORE] for blur_px in (2, 4, 8))
    detail, shades = (np.quantile(np.abs(band), DETAIL_SHARE) for band in (fine - middle, middle - coarse))
    return round(float(detail / (shades + FLAT)), 3)


def resize_face(face: Picture, size: int) -> Picture:
    """Resize an aligned (S, S, 3) face to a smaller size. It stays aligned."""
    if face.shape[:2] == (size, size):
        return face
    return cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
