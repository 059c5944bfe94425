"""Convert stored frames to pictures: cropped as the container states, with square pixels, HDR tone-mapped. They are not
yet rotated or mirrored.

Contract: all pictures of a video have one size. A frame of another size or pixel aspect is shown whole, in its own
shape, in the middle of that size. The result depends on the frame alone.
"""

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.arrays import Picture
from pipeline.media.aspect import TOLERANCE, PixelAspects
from pipeline.media.probe import Probe
from pipeline.media.tone import DEEP, HLG, PQ, ToneMapper, transfer_of

GREY = 114
"""Grey value around a frame of another shape. Detectors are trained with it, and take black bars for people."""


class Screen:
    """Converts frames of a video to pictures of `size`, (width, height) px, not yet rotated or mirrored.

    interpolation: how swscale resizes. AREA takes the mean of the pixels under each new one. For pictures that are much
        smaller it is as good as BICUBIC, and takes half the time.
    """

    def __init__(
        self, probe: Probe, size: tuple[int, int], interpolation: Interpolation = Interpolation.BICUBIC
    ) -> None:
        self._probe, self._size, self._interpolation = probe, size, interpolation
        self._aspects = PixelAspects()
        self._shape_of_video = probe.stored[0] * probe.sample_aspect, probe.stored[1]
        self._scaler, self._from_deep, self._tone_mapper = VideoReformatter(), VideoReformatter(), ToneMapper()

    def __call__(self, frame: VideoFrame, pixel_format: str) -> Picture:
        """Return a frame as a (height, width, 3) uint8 picture in `pixel_format`, rgb24 or bgr24."""
        across, down = self._shape(frame)
        if (across, down) == self._shape_of_video:
            return self._cropped(frame, pixel_format)
        scale = min(Fraction(self._size[0]) / across, Fraction(self._size[1], down))
        width = min(max(1, round(across * scale)), self._size[0])
        height = min(max(1, round(down * scale)), self._size[1])
        canvas = np.full((self._size[1], self._size[0], 3), GREY, np.uint8)
        left, top = (self._size[0] - width) // 2, (self._size[1] - height) // 2
        canvas[top : top + height, left : left + width] = self._converted(frame, width, height, pixel_format)
        return canvas

    def other_size(self, frame: VideoFrame) -> str | None:
        """Return the frame's displayed size as WIDTHxHEIGHT if it differs from the video's, else None."""
        shape = self._shape(frame)
        if shape == self._shape_of_video:
            return None
        across, down = round(shape[0]), shape[1]
        return f"{down}x{across}" if self._probe.rotation % 180 else f"{across}x{down}"

    def _shape(self, frame: VideoFrame) -> tuple[Fraction, int]:
        """Return width and height of the stored frame in square pixels."""
        aspect = self._probe.sample_aspect
        if not self._probe.frames_say_aspect and (frame.width, frame.height) == self._probe.stored:
            return self._shape_of_video
        if self._probe.frames_say_aspect and abs((frame_aspect := self._aspects(frame)) / aspect - 1) > TOLERANCE:
            aspect = frame_aspect
        return frame.width * aspect, frame.height

    def _cropped(self, frame: VideoFrame, pixel_format: str) -> Picture:
        width, height = self._size
        left, top, right, bottom = self._probe.insets
        if not any(self._probe.insets):
            return self._converted(frame, width, height, pixel_format)
        across = Fraction(width, frame.width - left - right)
        down = Fraction(height, frame.height - top - bottom)
        whole = self._converted(frame, round(frame.width * across), round(frame.height * down), pixel_format)
        left, top = round(left * across), round(top * down)
        left, top = min(left, whole.shape[1] - width), min(top, whole.shape[0] - height)
        return whole[top : top + height, left : left + width]

    def _converted(self, frame: VideoFrame, width: int, height: int, pixel_format: str) -> Picture:
        transfer = transfer_of(frame, self._probe.transfer)
        if transfer in (PQ, HLG):
            deep = self._scaler.reformat(frame, width, height, DEEP, interpolation=self._interpolation, threads=1)
            toned = self._tone_mapper(deep, transfer)
            return np.asarray(self._from_deep.reformat(toned, format=pixel_format, threads=1).to_ndarray(), np.uint8)
        converted = self._scaler.reformat(
            frame, width, height, pixel_format, interpolation=self._interpolation, threads=1
        )
        return np.asarray(converted.to_ndarray(), np.uint8)
