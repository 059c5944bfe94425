"""Cut crops of people, small enough to keep, and measure their detail. Pictures are (H, W, 3) uint8 RGB."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from pipeline.arrays import Picture
from pipeline.media.pictures import cut_out, resize_to_long_side

SHARPNESS_PX = 160


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture.

    picture: (H, W, 3) uint8 RGB.
    x, y: px. Position of the upper left corner in the whole picture.
    scale: pixels of the crop per pixel of the whole picture.
    """

    picture: Picture
    x: float
    y: float
    scale: float


def cut_small(picture: Picture, box: Sequence[float], max_px: int) -> Crop:
    """Cut out the xyxy `box` in whole pixels inside the picture, and scale it down to at most `max_px` on the long
    side."""
    part = cut_out(picture, box)
    small = resize_to_long_side(part, max_px)
    return Crop(small, box[0], box[1], max(small.shape[:2]) / max(part.shape[:2]))


def sharpness(picture: Picture) -> float:
    """Return the variance of the Laplacian of grey values at no more than SHARPNESS_PX on the long side, rounded to
    0.1.

    The small picture makes it a measure of the detail that a small model sees, not of the crop's size.
    """
    grey = cv2.cvtColor(resize_to_long_side(picture, SHARPNESS_PX), cv2.COLOR_RGB2GRAY)
    return round(float(cv2.Laplacian(grey, cv2.CV_64F).var()), 1)
