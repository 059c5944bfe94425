"""Draw on pictures and on video frames in the same way, without converting whole frames between colour spaces.

A video frame is drawn on in its own planes: brightness at full size, two colour planes at half the width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from pipeline.arrays import Picture

Plane = NDArray[np.uint8]
Colour = tuple[int, int, int]
HD_HEIGHT = 720
"""px. Players take a taller video that does not state its matrix for BT.709, and a lower one for BT.601."""
LUMA = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""The weights of red and blue in brightness, by the matrix's ITU-T H.273 code. All others are taken for BT.601."""
LUMA_601 = (0.299, 0.114)


@dataclass(frozen=True, slots=True)
class Coding:
    """The meaning of the planes of a yuv420p frame.

    matrix: ITU-T H.273 code; 2: not stated.
    is_full: brightness is coded as 0..255, not as 16..235.
    primaries, transfer: ITU-T H.273 codes.
    """

    matrix: int
    is_full: bool
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame) -> "Coding":
        """Return the coding that a decoded frame states."""
        is_full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        return cls(int(frame.colorspace), is_full, int(frame.color_primaries), int(frame.color_trc))

    @property
    def scaler_matrix(self) -> int:
        """The name of the matrix for FFmpeg's scaler, which knows two."""
        return int(Colorspace.ITU709 if self.matrix == 1 else Colorspace.ITU601)

    def to_planes(self, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (3, 3) matrix and (3,) offset that turn RGB into YUV, for a video of this height in px."""
        matrix = (1 if height >= HD_HEIGHT else 6) if self.matrix == 2 else self.matrix
        red, blue = LUMA.get(matrix, LUMA_601)
        weights = np.array([red, 1 - red - blue, blue])
        luma_range, chroma_range = (255, 255) if self.is_full else (219, 224)
        rows = [
            weights * luma_range,
            (np.array([0, 0, 1]) - weights) / (2 * (1 - blue)) * chroma_range,
            (np.array([1, 0, 0]) - weights) / (2 * (1 - red)) * chroma_range,
        ]
        return np.array(rows) / 255, np.array([0 if self.is_full else 16, 128, 128])


BT709 = Coding(matrix=1, is_full=False, primaries=1, transfer=1)


class Canvas:
    """A picture or a video frame to draw on. Drawing changes the array or the frame that it was made of.

    Coordinates are px of the displayed picture. On a video frame the colour of a pixel is shared by four, so edges at
    even coordinates are sharp in colour too.

    width, height: px.
    planes: an RGB picture as one (H, W, 3) plane, or the planes of a yuv420p frame, (H, W), (H/2, W/2), (H/2, W/2).
    """

    def __init__(self, planes: Sequence[Plane], width: int, height: int, coding: Coding | None = None) -> None:
        self.planes, self.width, self.height = tuple(planes), width, height
        self._coding = coding

    @classmethod
    def of_picture(cls, picture: Picture) -> "Canvas":
        """Return a canvas that draws into an RGB picture."""
        return cls((picture,), picture.shape[1], picture.shape[0])

    @classmethod
    def of_frame(cls, frame: VideoFrame, width: int, height: int, coding: Coding) -> "Canvas":
        """Return a canvas that draws into a yuv420p frame, of which width x height px are displayed."""
        return cls(planes_of(frame), width, height, coding)

    def fill(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Fill a rectangle with an RGB colour. What lies outside the picture is left out."""
        left, top = max(left, 0), max(top, 0)
        if left >= right or top >= bottom:
            return
        for plane, value in zip(self.planes, self._inks(colour), strict=True):
            step = self._step(plane)
            plane[top // step : -(-bottom // step), left // step : -(-right // step)] = value

    def parts(self, left: int, top: int, right: int, bottom: int) -> list[Plane]:
        """Return views of a rectangle inside the picture, one for each plane. Its corners are at even px."""
        steps = [(plane, self._step(plane)) for plane in self.planes]
        return [plane[top // n : -(-bottom // n), left // n : -(-right // n)] for plane, n in steps]

    def patch(self, picture: Picture) -> tuple[Plane, ...]:
        """Return an RGB picture of even width and height in the form that `paste` takes."""
        if self._coding is None:
            return (picture,)
        matrix, offset = self._matrix
        yuv = np.clip(np.rint(picture @ matrix.T + offset), 0, 255)
        half = yuv[:, :, 1:].reshape(picture.shape[0] // 2, 2, picture.shape[1] // 2, 2, 2).mean(axis=(1, 3))
        planes = [yuv[:, :, 0], half[:, :, 0], half[:, :, 1]]
        return tuple(np.rint(plane).astype(np.uint8) for plane in planes)

    def paste(self, left: int, top: int, patch: Sequence[Plane]) -> None:
        """Draw a patch with its upper left corner at even coordinates inside the picture."""
        for plane, part in zip(self.planes, patch, strict=True):
            step = self._step(plane)
            target = plane[top // step :, left // step :][: part.shape[0], : part.shape[1]]
            target[:] = part[: target.shape[0], : target.shape[1]]

    @cached_property
    def _matrix(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self._coding is not None
        return self._coding.to_planes(self.height)

    def _inks(self, colour: Colour) -> Sequence[Colour | int]:
        if self._coding is None:
            return (colour,)
        matrix, offset = self._matrix
        return np.clip(np.rint(matrix @ colour + offset), 0, 255).astype(int).tolist()

    def _step(self, plane: Plane) -> int:
        return 1 if plane is self.planes[0] else 2


def planes_of(frame: VideoFrame) -> list[Plane]:
    """Return views of the planes of an 8-bit planar frame, each (H, W). Writing to them changes the frame."""
    return [
        np.frombuffer(cast(bytearray, plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]
