"""Take the planes of decoded frames as they are, for models that read them on a card.

Contract: the planes are the displayed picture, and the frame alone decides whether it has some. Other frames become
RGB, as all do without a card.
"""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from pipeline.arrays import Picture, Planes
from pipeline.media.canvas import Plane, planes_of
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.tone import HLG, PQ, transfer_of

FORMATS = ("yuv420p", "yuvj420p")
MATRICES = {1: 1, 2: 6, 5: 6, 6: 6, 9: 9, 10: 9}
"""ITU-T H.273 code -> the code of the matrix that FFmpeg's scaler takes for it, and so do the pictures as RGB. Frames
with other codes become RGB."""
MOST_PIXELS = 4096 * 2304
"""Larger pictures become RGB, so that the memory of a card has a bound for each picture."""


class FramePlanes:
    """Takes the planes of the frames of one video.

    screen: the one that makes the RGB pictures of this video, not yet rotated or mirrored.
    """

    def __init__(self, probe: Probe, screen: Screen) -> None:
        self._probe, self._screen = probe, screen
        self._late_screen = Screen(probe, probe.stored)  # for another thread
        is_moved = probe.mirrored or probe.rotation != 0
        self._is_fit = (
            probe.sample_aspect == 1
            and not any(probe.insets)
            and probe.stored[0] * probe.stored[1] <= MOST_PIXELS
            # Turned, the colour of a last column that is alone would belong to the first two.
            and not (is_moved and any(side % 2 for side in probe.stored))
        )

    def __call__(self, frame: VideoFrame) -> Planes | None:
        """Return the planes of a frame as displayed, or None if it must become RGB. They share the frame's memory."""
        matrix = MATRICES.get(int(frame.colorspace))
        if not self._is_fit or matrix is None or frame.format.name not in FORMATS:
            return None
        if transfer_of(frame, self._probe.transfer) in (PQ, HLG) or self._screen.other_size(frame) is not None:
            return None
        if any(plane.line_size <= 0 for plane in frame.planes):
            return None
        is_full = frame.format.name == "yuvj420p" or frame.color_range == ColorRange.JPEG
        y, u, v = (self._upright(plane) for plane in planes_of(frame))
        return Planes(y, u, v, matrix, is_full, lambda: self._picture(frame))

    def _upright(self, plane: Plane) -> Plane:
        return np.rot90(plane[:, ::-1] if self._probe.mirrored else plane, self._probe.rotation // 90)

    def _picture(self, frame: VideoFrame) -> Picture:
        return self._probe.upright(self._late_screen(frame, "rgb24"))
