"""Decode a span of a video: exactly the frames that it owns, whatever the spans before and after it are.

Laws, beside those of `shown`:
- The difference between two neighbours, and the camera's motion to an analysed frame, belong to the owner of the
  earlier frame. The owner decodes one frame more for it. The first frame of a cell is always analysed, and so is
  that one.
- The frames of a cell alone decide which of them are analysed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from av.video.frame import VideoFrame
from cv2.typing import MatLike

from pipeline.arrays import Picture, Planes
from pipeline.cores.plan import Grid, exact
from pipeline.media.camera import camera_motion
from pipeline.media.container import Opener
from pipeline.media.frame_planes import FramePlanes
from pipeline.media.nvdec import CardDecoder
from pipeline.media.pictures import read_picture
from pipeline.media.place import sketch
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.shown import ShownFrames
from pipeline.media.thumbnails import Thumbnails
from pipeline.media.warnings import notes_to_json


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame of the video with its differences to the next frame.

    time_ns: from the first displayed frame, rounded down so that it lies in `cell`.
    cell: index of the cell that owns the frame.
    analysed: the models see this frame.
    picture: (H, W, 3) RGB as displayed. None unless analysed, and where there are `planes`.
    differences: PySceneDetect's sums of absolute differences of hue, saturation and lightness to the next frame of
        the video, over `SpanDecoder.thumbnail_pixels` pixels. None for the last frame of the video.
    motion: of the camera from the last analysed frame to the next frame. In complex px x + iy as displayed, it is
        the real and imaginary parts of a and b in z -> a * z + b. None if it was not asked for, if the next frame is
        not analysed, if the camera stands still or if its motion cannot be measured.
    place: media.place.sketch of an analysed frame of a video, else None.
    planes: those of the picture of an analysed frame, if the decoder keeps them.
    """

    time_ns: int
    cell: int
    analysed: bool
    picture: Picture | None
    differences: tuple[int, int, int] | None
    motion: tuple[float, float, float, float] | None = None
    place: bytes | None = None
    planes: Planes | None = None


class SpanDecoder:
    """The frames of cells [first_cell, end_cell) in order of time. Iterate it once. Raises Damaged and DataError.

    It never raises Damaged if `careful` is set, or if careful decoding would give the same. With a `card` it raises
    NotOnCard instead.

    end_cell: OPEN_END (-1) means the end of the video.
    fps: analysed frames a second; 0: all.
    threads: of the decoder. Careful decoding, and a video that cannot be entered midway, use one.
    keep_planes: pictures stay planes where `frame_planes` lets them.
    card: decodes instead of the CPU, as `nvdec.why_not_on_card` allows. Everything else is the same.
    warning: after the iteration the notes of the span as JSON (`warnings.notes_to_json`), None if there are none.
    """

    def __init__(
        self,
        open_source: Opener,
        probe: Probe,
        first_cell: int,
        end_cell: int,
        *,
        fps: float,
        cell_seconds: float,
        thumbnail_px: int,
        threads: int,
        camera_motion: bool = False,
        careful: bool = False,
        keep_planes: bool = False,
        card: CardDecoder | None = None,
    ) -> None:
        self._open_source, self._probe, self._first_cell = open_source, probe, first_cell
        cell_s = exact(cell_seconds)
        self._shown = ShownFrames(
            open_source, probe, first_cell, end_cell, cell_s=cell_s, threads=threads, careful=careful, card=card
        )
        self._grid = Grid.of(self._shown.tick_s, cell_s, exact(fps))
        self._camera_motion = camera_motion
        self._thumbnails = Thumbnails(probe, thumbnail_px)
        turned = probe.rotation % 180 != 0
        self._picture_screen = Screen(probe, (probe.height, probe.width) if turned else (probe.width, probe.height))
        self._planes = FramePlanes(probe, self._picture_screen) if keep_planes and probe.kind == "video" else None

    @property
    def thumbnail_pixels(self) -> int:
        """Number of pixels by which PySceneDetect's score divides the sums of differences."""
        return self._thumbnails.size[0] * self._thumbnails.size[1]

    @property
    def warning(self) -> str | None:
        """The notes about the cells that this span owns, as JSON. Complete after the iteration."""
        return notes_to_json(self._shown.notes)

    def __iter__(self) -> Iterator[DecodedFrame]:
        if self._probe.kind == "image":
            if self._first_cell == 0:
                yield DecodedFrame(0, 0, True, read_picture(self._open_source), None)
            return
        last_frame: DecodedFrame | None = None
        thumbnail = lightness = np.empty((0, 0), np.uint8)
        slot = (-1, -1)
        for frame, ticks in self._shown:
            cell = self._grid.cell_of(ticks)
            before, thumbnail = thumbnail, self._thumbnails(frame)
            before_slot, slot = slot, (cell, self._grid.slot_of(ticks))
            analysed = not self._grid.fps or slot != before_slot
            planes = cv2.split(self._probe.upright(thumbnail)) if analysed else ()
            if last_frame is not None:
                motion = self._motion(lightness, planes[2]) if self._camera_motion and planes else None
                yield replace(last_frame, differences=_difference(before, thumbnail), motion=motion)
            if self._shown.is_beyond(cell):
                return
            if (resized := self._picture_screen.other_size(frame)) is not None:
                self._shown.note(cell, resized)
            lightness = planes[2] if planes else lightness
            kept = self._planes(frame) if analysed and self._planes else None
            picture = self._picture(frame) if analysed and kept is None else None
            place = sketch(planes) if planes else None
            last_frame = DecodedFrame(self._grid.ns_of(ticks), cell, analysed, picture, None, place=place, planes=kept)
        if last_frame is not None:
            yield last_frame

    def _picture(self, frame: VideoFrame) -> Picture:
        """Return the frame as displayed, (height, width, 3) RGB."""
        return self._probe.upright(self._picture_screen(frame, "rgb24"))

    def _motion(self, earlier: MatLike, later: MatLike) -> tuple[float, float, float, float] | None:
        similarity = camera_motion(earlier, later)
        if similarity is None:
            return None
        (real, _, x), (imaginary, _, y) = similarity.tolist()
        px = max(self._probe.width, self._probe.height) / max(self._thumbnails.size)
        return round(real, 6), round(imaginary, 6), round(x * px, 3), round(y * px, 3)


def _difference(a: Picture, b: Picture) -> tuple[int, int, int]:
    hue, saturation, lightness, _ = cv2.sumElems(cv2.absdiff(a, b))
    return int(hue), int(saturation), int(lightness)
