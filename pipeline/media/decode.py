"""Decode a span of a video: exactly the frames that it owns, whatever the spans before and after it are.

Laws:
- A frame's exact time decides which cell, and so which chunk, owns it. Where decoding begins cannot change its
  pixels.
- The difference between two neighbours, and the camera's motion to an analysed frame, belong to the owner of the
  earlier frame. The owner decodes one frame more for it. The first frame of a cell is always analysed, and so is
  that one.
- The frames of a cell alone decide which of them are analysed.
- A frame with a wrong time stamp is not displayed (cores.stamps). In a video without usable time stamps
  (Probe.times_are_counted) the order of output counts.
- The picture of damaged video depends on how it is decoded. So the first sign of damage ends the pass with
  `Damaged`, and the span is decoded again with careful=True: one thread, one keyframe earlier, and FFmpeg's default
  concealment of errors.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

import cv2
import numpy as np
from av.video.frame import VideoFrame
from cv2.typing import MatLike

from pipeline.arrays import Picture
from pipeline.cores.plan import NS, OPEN_END, cell_of, exact, slot_of
from pipeline.cores.stamps import FellBack, Stamped, in_line
from pipeline.errors import DataError
from pipeline.media.camera import camera_motion
from pipeline.media.container import BadPacket, Opener
from pipeline.media.entry import decode_carefully, decode_from, decode_whole
from pipeline.media.pictures import read_picture
from pipeline.media.place import sketch
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.transport import joined
from pipeline.media.warnings import DAMAGED, Note, notes_to_json


class Damaged(Exception):  # noqa: N818 — a state of the file, not a mistake
    """Raised when the span holds damaged frames: decode it again with careful=True."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame of the video with its differences to the next frame.

    time_ns: from the first displayed frame, rounded down so that it lies in `cell`.
    cell: index of the cell that owns the frame.
    analysed: the models see this frame.
    picture: (H, W, 3) RGB as displayed. None unless analysed.
    differences: PySceneDetect's sums of absolute differences of hue, saturation and lightness to the next frame of
        the video, over `SpanDecoder.thumbnail_pixels` pixels. None for the last frame of the video.
    motion: of the camera from the last analysed frame to the next frame. In complex px x + iy as displayed, it is
        the real and imaginary parts of a and b in z -> a * z + b. None if it was not asked for, if the next frame is
        not analysed, if the camera stands still or if its motion cannot be measured.
    place: media.place.sketch of an analysed frame of a video, else None.
    """

    time_ns: int
    cell: int
    analysed: bool
    picture: Picture | None
    differences: tuple[int, int, int] | None
    motion: tuple[float, float, float, float] | None = None
    place: bytes | None = None


class SpanDecoder:
    """The frames of cells [first_cell, end_cell) in order of time. Iterate it once. Raises Damaged and DataError.

    It never raises Damaged if `careful` is set, or if careful decoding would give the same.

    end_cell: OPEN_END (-1) means the end of the video.
    fps: analysed frames a second; 0: all.
    threads: of the decoder. Careful decoding, and a video that cannot be entered midway, use one.
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
    ) -> None:
        self._open_source, self._probe = joined(open_source, probe.packet_bytes, probe.packet_ids), probe
        self._first_cell, self._end_cell = first_cell, end_cell
        self._fps, self._cell_s = exact(fps), exact(cell_seconds)
        self._camera_motion = camera_motion
        # A single pass over a whole video has no neighbour to agree with, and is too expensive to repeat.
        self._careful = careful or not probe.enterable
        self._threads = 1 if self._careful else threads
        self._thumbnail_size = _fitted(probe.width, probe.height, thumbnail_px, turned=probe.rotation % 180 != 0)
        turned = probe.rotation % 180 != 0
        self._picture_screen = Screen(probe, (probe.height, probe.width) if turned else (probe.width, probe.height))
        self._thumbnail_screen = Screen(probe, self._thumbnail_size)
        self._notes: set[Note] = set()

    @property
    def thumbnail_pixels(self) -> int:
        """Number of pixels by which PySceneDetect's score divides the sums of differences."""
        return self._thumbnail_size[0] * self._thumbnail_size[1]

    @property
    def warning(self) -> str | None:
        """The notes about the cells that this span owns, as JSON. Complete after the iteration."""
        return notes_to_json(self._notes)

    def __iter__(self) -> Iterator[DecodedFrame]:
        if self._probe.kind == "image":
            if self._first_cell == 0:
                yield DecodedFrame(0, 0, True, read_picture(self._open_source), None)
            return
        last_frame: DecodedFrame | None = None
        planes: list[MatLike] = []
        analysed_plane: MatLike = np.empty((0, 0), np.uint8)
        slot = (-1, -1)
        for frame, time_s in self._from_first_cell():
            cell = cell_of(time_s, self._cell_s)
            before, planes = planes, self._hue_saturation_lightness(frame)
            before_slot, slot = slot, (cell, slot_of(time_s, self._cell_s, self._fps) if self._fps else -1)
            analysed = not self._fps or slot != before_slot
            if last_frame is not None:
                motion = self._motion(analysed_plane, planes[2]) if self._camera_motion and analysed else None
                yield replace(last_frame, differences=_difference(before, planes), motion=motion)
            if self._is_beyond(cell):
                return
            if (resized := self._picture_screen.other_size(frame)) is not None:
                self._note(cell, resized)
            analysed_plane = planes[2] if analysed else analysed_plane
            picture = self._picture(frame) if analysed else None
            place = sketch(self._as_displayed(planes)) if analysed else None
            last_frame = DecodedFrame(int(time_s * NS), cell, analysed, picture, None, place=place)
        if last_frame is not None:
            yield last_frame

    def _from_first_cell(self) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yield displayed frames with their times in seconds, from the first frame that the span owns on."""
        try:
            for frame in self._counted() if self._probe.times_are_counted else self._in_line():
                if frame.time_s >= 0 and cell_of(frame.time_s, self._cell_s) >= self._first_cell:
                    yield frame.item, frame.time_s
        except FellBack as fall:
            raise DataError(
                f"time stamps jump back by {float(fall.by_s):.1f} s at {float(fall.at_s):.1f} s: "
                "these seem to be several recordings in one file; split it, or copy it into another container"
            ) from None

    def _in_line(self) -> Iterator[Stamped[VideoFrame]]:
        frames = self._stamped()
        first = next(frames, None)
        if first is not None:
            entered = self._probe.enterable and 0 < first.time_s <= self._first_cell * self._cell_s
            yield from in_line(chain([first], frames), entered=entered)

    def _stamped(self) -> Iterator[Stamped[VideoFrame]]:
        """Yield frames with the times of their time stamps. Frames without one are left out."""
        for frame in self._decoded():
            time_s = None if frame.pts is None else self._probe.time_of(frame.pts)
            if isinstance(frame, BadPacket):
                self._note_damage(time_s)
            elif time_s is not None:
                if frame.is_corrupt:
                    self._note_damage(time_s)
                yield Stamped(frame, time_s, frame.key_frame and not frame.is_corrupt)

    def _counted(self) -> Iterator[Stamped[VideoFrame]]:
        """Yield frames with times at a constant rate."""
        num_shown = 0
        for frame in self._decoded():
            time_s = num_shown / self._probe.fps
            if isinstance(frame, BadPacket) or frame.is_corrupt:
                self._note_damage(time_s)
            if not isinstance(frame, BadPacket):
                num_shown += 1
                yield Stamped(frame, time_s, frame.key_frame)

    def _decoded(self) -> Iterator[VideoFrame | BadPacket]:
        probe = self._probe
        if not probe.enterable:
            return decode_whole(self._open_source, probe.stream, threads=1, strict=False)
        target_pts = math.floor(self._pts_of(self._first_cell)) if self._first_cell > 0 else None
        if self._careful:
            return decode_carefully(self._open_source, probe.stream, target_pts, probe.start_pts)
        end_pts = None if self._end_cell == OPEN_END else math.ceil(self._pts_of(self._end_cell))
        if target_pts is None:
            return decode_whole(self._open_source, probe.stream, threads=self._threads, strict=True, end_pts=end_pts)
        return decode_from(
            self._open_source,
            probe.stream,
            target_pts,
            probe.start_pts,
            threads=self._threads,
            strict=True,
            end_pts=end_pts,
        )

    def _pts_of(self, cell: int) -> Fraction:
        return self._probe.start_pts + cell * self._cell_s / self._probe.time_base

    def _note_damage(self, time_s: Fraction | None) -> None:
        if not self._careful:
            raise Damaged
        if time_s is not None and time_s >= 0:
            self._note(cell_of(time_s, self._cell_s), DAMAGED)

    def _note(self, cell: int, what: str) -> None:
        if cell >= self._first_cell and not self._is_beyond(cell):
            self._notes.add((cell, what))

    def _is_beyond(self, cell: int) -> bool:
        return self._end_cell != OPEN_END and cell >= self._end_cell

    def _picture(self, frame: VideoFrame) -> Picture:
        """Return the frame as displayed, (height, width, 3) RGB."""
        return self._probe.upright(self._picture_screen(frame, "rgb24"))

    def _hue_saturation_lightness(self, frame: VideoFrame) -> list[MatLike]:
        """Return the three planes that PySceneDetect compares, of the thumbnail as stored. Turning it would change
        no sum."""
        return list(cv2.split(cv2.cvtColor(self._thumbnail_screen(frame, "bgr24"), cv2.COLOR_BGR2HSV)))

    def _as_displayed(self, planes: Iterable[MatLike]) -> list[MatLike]:
        return [self._probe.upright(np.asarray(plane, np.uint8)) for plane in planes]

    def _motion(self, earlier: MatLike, later: MatLike) -> tuple[float, float, float, float] | None:
        similarity = camera_motion(*self._as_displayed((earlier, later)))
        if similarity is None:
            return None
        (real, _, x), (imaginary, _, y) = similarity.tolist()
        px = max(self._probe.width, self._probe.height) / max(self._thumbnail_size)
        return round(real, 6), round(imaginary, 6), round(x * px, 3), round(y * px, 3)


def _difference(a: list[MatLike], b: list[MatLike]) -> tuple[int, int, int]:
    hue, saturation, lightness = (int(cv2.norm(x, y, cv2.NORM_L1)) for x, y in zip(a, b, strict=True))
    return hue, saturation, lightness


def _fitted(width: int, height: int, long_side: int, *, turned: bool) -> tuple[int, int]:
    """Return (width, height) of the thumbnail of a stored picture: in the displayed shape, at most `long_side` px."""
    if turned:
        width, height = height, width
    scale = min(Fraction(1), Fraction(long_side, max(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))
