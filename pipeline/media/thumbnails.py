"""Make small pictures of frames, in hue, saturation and lightness: what cuts, camera motion and places are found from.

Contract: all thumbnails of a video have one size, not yet rotated or mirrored. A thumbnail depends on its frame alone.
The planes of an ordinary frame are halved as often as they can be, then fitted, and only the result is converted: that
takes half the time of FFmpeg's scaler for large frames, which reads every pixel through a filter.
"""

from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from cv2.typing import MatLike
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.media.canvas import Coding, Plane, planes_of
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.tone import HLG, PQ, transfer_of

PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})
"""FFmpeg's names of pixel formats with 8 bits and a plane each for brightness and two colours."""


class Thumbnails:
    """Makes thumbnails of at most `long_side` px, in the displayed shape.

    size: (width, height) in px of a thumbnail.
    """

    def __init__(self, probe: Probe, long_side: int) -> None:
        turned = probe.rotation % 180 != 0
        width, height = (probe.height, probe.width) if turned else (probe.width, probe.height)
        scale = min(Fraction(1), Fraction(long_side, max(width, height)))
        self.size = max(1, round(width * scale)), max(1, round(height * scale))
        self._probe, self._screen = probe, Screen(probe, self.size, Interpolation.AREA)
        self._to_bgr: dict[Coding, NDArray[np.float64]] = {}

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return a frame in hue, saturation and lightness, (h, w, 3), as PySceneDetect compares them."""
        bgr = self._fitted(frame) if self._is_ordinary(frame) else self._screen(frame, "bgr24")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), np.uint8)

    def _is_ordinary(self, frame: VideoFrame) -> bool:
        return (
            frame.format.name in PLANAR
            and not any(self._probe.insets)
            and transfer_of(frame, self._probe.transfer) not in (PQ, HLG)
            and self._screen.other_size(frame) is None
        )

    def _fitted(self, frame: VideoFrame) -> MatLike:
        coding = Coding.of(frame)
        if coding not in self._to_bgr:
            self._to_bgr[coding] = _to_bgr(coding)
        planes = [_halved(plane, self.size) for plane in planes_of(frame)]
        if len({plane.shape for plane in planes}) == 1:  # as after one half of a large yuv420p frame: one pass for all
            fitted = _resized(cv2.merge(planes), self.size)
        else:
            fitted = cv2.merge([_resized(plane, self.size) for plane in planes])
        return cv2.transform(fitted, self._to_bgr[coding])


def _halved(plane: Plane, size: tuple[int, int]) -> Plane:
    """Return a plane, halved as often as no side gets shorter than in `size`. What an odd side has over is cut off
    before."""
    while plane.shape[1] >= 2 * size[0] and plane.shape[0] >= 2 * size[1]:
        height, width = plane.shape[0] // 2, plane.shape[1] // 2
        half = cv2.resize(plane[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        plane = np.asarray(half, np.uint8)
    return plane


def _resized(picture: MatLike, size: tuple[int, int]) -> MatLike:
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def _to_bgr(coding: Coding) -> NDArray[np.float64]:
    """Return the (3, 4) matrix that turns YUV into BGR. Colours without a stated matrix are taken for BT.601, as
    FFmpeg's scaler takes them for pictures."""
    matrix, offset = coding.to_planes(0)
    back = np.linalg.inv(matrix)
    return np.asarray(np.hstack([back, -(back @ offset)[:, None]])[::-1], np.float64).copy()
