"""The part of an aligned face that each network sees: a window, squashed to the network's input.

An aligned face is square. The similarity transform brings the five landmarks onto the FFHQ template of facexlib (at
512 px: eyes at (193, 240) and (319, 240), nose (257, 314), corners of the mouth (201, 371) and (313, 371)).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle on the aligned face.

    left, top, right, bottom: fractions of the face's side. They are below 0 or above 1 where the window reaches out.
    """

    left: float
    top: float
    right: float
    bottom: float

    def cut(self, faces: NDArray[np.uint8], width_px: int, height_px: int | None = None) -> NDArray[np.uint8]:
        """Cut the window out of (N, S, S, 3) aligned faces: (N, height_px, width_px, 3), square by default.

        The aspect ratio is not kept. Outside the face's square the border is repeated.
        """
        side = faces.shape[1]
        left, top, right, bottom = (round(part * side) for part in (self.left, self.top, self.right, self.bottom))
        beyond = ((0, 0), (max(-top, 0), max(bottom - side, 0)), (max(-left, 0), max(right - side, 0)), (0, 0))
        inside = faces[:, max(top, 0) : min(bottom, side), max(left, 0) : min(right, side)]
        return _squash(np.pad(inside, beyond, mode="edge"), width_px, height_px or width_px)

    def fill(self, crops: NDArray[np.uint8], side_px: int, *, bicubic: bool = True) -> NDArray[np.uint8]:
        """Make (N, side_px, side_px, 3) aligned faces from (N, H, W, 3) pictures that show this window.

        This is the inverse of `cut`. The window must lie inside the face's square. The border is repeated around it.

        bicubic: enlarge as media.faces.align_face does for estimators, else bilinearly.
        """
        enlarging = cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR
        left, top, right, bottom = (round(part * side_px) for part in (self.left, self.top, self.right, self.bottom))
        faces = np.empty((len(crops), side_px, side_px, 3), np.uint8)
        for crop, face in zip(crops, faces, strict=True):
            inner = _resize(crop, right - left, bottom - top, enlarging)
            face[:] = np.pad(inner, ((top, side_px - bottom), (left, side_px - right), (0, 0)), mode="edge")
        return faces


UTKFACE = Window(left=0.19, top=0.29, right=0.83, bottom=0.91)
"""The window that UTKFace's pictures show: the median of 2,998 pictures by RetinaFace's landmarks (python -m
tests.bench.ssrnet_on_utkface)."""


def _squash(pictures: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    squashed = np.empty((len(pictures), height_px, width_px, 3), np.uint8)
    for picture, target in zip(pictures, squashed, strict=True):
        target[:] = _resize(picture, width_px, height_px)
    return squashed


def _resize(
    picture: NDArray[np.uint8], width: int, height: int, enlarging: int = cv2.INTER_LINEAR
) -> NDArray[np.uint8]:
    """Resize by averaging when shrinking and interpolating when enlarging."""
    shrinks = picture.shape[0] * picture.shape[1] > width * height
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else enlarging)
    return resized.astype(np.uint8, copy=False)
