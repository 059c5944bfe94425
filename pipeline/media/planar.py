"""Convert decoded frames to yuv420p frames as displayed, for drawing and encoding.

Contract: the result shows what `screen.Screen` shows. An ordinary frame keeps its planes and the coding of its colours
bit for bit; it is at most scaled, mirrored and turned.
"""

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from pipeline.media.canvas import BT709, Canvas, Coding, Plane, planes_of
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.tone import HLG, PQ, transfer_of


class PlanarScreen:
    """Converts the frames of a video, all to one size. An odd side gets a column or row more, as yuv420p needs.

    scale: size of the result, as a share of the displayed size.
    width, height: px of the result without the additional column or row.
    coding: of the colours. The first frame decides it.
    """

    def __init__(self, probe: Probe, scale: Fraction = Fraction(1)) -> None:
        self.width, self.height = (max(2, round(side * scale)) for side in (probe.width, probe.height))
        turned = probe.rotation % 180 != 0
        self._stored = (self.height, self.width) if turned else (self.width, self.height)
        self._probe, self._screen = probe, Screen(probe, self._stored)
        self._scaler, self._from_rgb = VideoReformatter(), VideoReformatter()
        self.coding: Coding | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame as displayed. It shares no memory with `frame`."""
        is_plain = (
            not any(self._probe.insets)
            and transfer_of(frame, self._probe.transfer) not in (PQ, HLG)
            and self._screen.other_size(frame) is None
        )
        self.coding = self.coding or (Coding.of(frame) if is_plain else BT709)
        stored = self._scaled(frame, self.coding) if is_plain else self._converted(frame, self.coding)
        shown = VideoFrame(self.width + self.width % 2, self.height + self.height % 2, "yuv420p")
        for source, target in zip(planes_of(stored), planes_of(shown), strict=True):
            _copy(self._upright(source), target)
        return shown

    def canvas(self, shown: VideoFrame) -> Canvas:
        """Return a canvas that draws into a frame that this screen has made."""
        assert self.coding is not None
        return Canvas.of_frame(shown, self.width, self.height, self.coding)

    def _scaled(self, frame: VideoFrame, coding: Coding) -> VideoFrame:
        pixel_format = "yuvj420p" if coding.is_full else "yuv420p"
        return self._scaler.reformat(frame, *self._stored, pixel_format, threads=1)

    def _converted(self, frame: VideoFrame, coding: Coding) -> VideoFrame:
        picture = VideoFrame.from_ndarray(self._screen(frame, "rgb24"), "rgb24")
        colour_range = ColorRange.JPEG if coding.is_full else ColorRange.MPEG
        return self._from_rgb.reformat(
            picture,
            format="yuv420p",
            dst_colorspace=coding.scaler_matrix,
            dst_color_range=colour_range,
            threads=1,
        )

    def _upright(self, plane: Plane) -> Plane:
        return np.rot90(plane[:, ::-1] if self._probe.mirrored else plane, self._probe.rotation // 90)


def _copy(source: Plane, target: Plane) -> None:
    """Copy a plane into one that may have a column or row more, which repeats the last one."""
    height, width = source.shape
    target[:height, :width] = source
    target[height:, :width] = source[-1]
    target[:, width:] = target[:, width - 1 : width]
