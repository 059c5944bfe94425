"""What each network sees of an aligned face: a window of it, squashed to the network's square.

An aligned face is square: the similarity transform that brings the five landmarks onto the FFHQ template of facexlib (at
512 px: eyes at (193, 240) and (319, 240), nose (257, 314), corners of the mouth (201, 371) and (313, 371)).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the aligned face; borders as fractions of its side, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float

    def cut(self, faces: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
        """(N, S, S, 3) aligned faces -> (N, side_px, side_px, 3); the aspect is not kept."""
        side = faces.shape[1]
        left, top, right, bottom = (round(part * side) for part in (self.left, self.top, self.right, self.bottom))
        return squash(faces[:, top:bottom, left:right], side_px)


WHOLE = Window(left=0, top=0, right=1, bottom=1)


def squash(pictures: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) -> (N, side_px, side_px, 3), averaging where pixels are lost."""
    if pictures.shape[1:3] == (side_px, side_px):
        return pictures
    squashed = np.empty((len(pictures), side_px, side_px, 3), np.uint8)
    interpolation = cv2.INTER_AREA if max(pictures.shape[1:3]) > side_px else cv2.INTER_LINEAR
    for picture, target in zip(pictures, squashed, strict=True):
        target[:] = cv2.resize(picture, (side_px, side_px), interpolation=interpolation)
    return squashed
