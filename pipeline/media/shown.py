"""The displayed frames of a span with their exact times: exactly those that the span owns.

Laws:
- A frame's exact time decides which cell, and so which span, owns it. Where decoding begins cannot change its pixels.
- A frame with a wrong time stamp is not displayed (cores.stamps). In a video without usable time stamps
  (Probe.times_are_counted) the order of output counts.
- The picture of damaged video depends on how it is decoded. So the first sign of damage ends the pass with
  `Damaged`, and the span is decoded again with careful=True: one thread, one keyframe earlier, and FFmpeg's default
  concealment of errors.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

from av.video.frame import VideoFrame

from pipeline.cores.plan import OPEN_END, Grid
from pipeline.cores.stamps import FellBack, Stamped, in_line
from pipeline.errors import DataError
from pipeline.media.container import BadPacket, Opener
from pipeline.media.entry import decode_carefully, decode_from, decode_whole
from pipeline.media.nvdec import CardDecoder, HostFrames, NotOnCard
from pipeline.media.probe import Probe
from pipeline.media.transport import joined
from pipeline.media.warnings import DAMAGED, Note


class Damaged(Exception):  # noqa: N818 — a state of the file, not a mistake
    """Raised when the span holds damaged frames: decode it again with careful=True."""


class ShownFrames:
    """The frames of a video from cell `first_cell` on, as decoded, with their times in ticks from the first one.

    They go on behind `end_cell`, so that the caller learns how long the last frame inside is shown. The caller stops.
    Iterate once. Raises Damaged and DataError. It never raises Damaged if `careful` is set, or if careful decoding
    would give the same. With a `card` it raises NotOnCard in place of both, and where the CPU might decode otherwise.

    end_cell: OPEN_END (-1) means the end of the video.
    threads: of the decoder. Careful decoding, and a video that cannot be entered midway, use one.
    card: decodes instead of the CPU. Not with `careful`.
    tick_s: seconds of one tick.
    notes: the places of damage in the span, complete after the iteration.
    """

    def __init__(
        self,
        open_source: Opener,
        probe: Probe,
        first_cell: int,
        end_cell: int,
        *,
        cell_s: Fraction,
        threads: int,
        careful: bool = False,
        card: CardDecoder | None = None,
    ) -> None:
        self._open_source, self._probe = joined(open_source, probe.packet_bytes, probe.packet_ids), probe
        self._first_cell, self._end_cell, self._cell_s = first_cell, end_cell, cell_s
        self.tick_s = 1 / probe.fps if probe.times_are_counted else probe.time_base
        self._grid = Grid.of(self.tick_s, cell_s, Fraction(0))
        # A single pass over a whole video has no neighbour to agree with, and is too expensive to repeat.
        self._careful = careful or not probe.enterable
        self._threads = 1 if self._careful else threads
        self._card = None if self._careful else card
        self._on_host = HostFrames(probe.stored) if self._card else None
        self.notes: set[Note] = set()

    def __iter__(self) -> Iterator[tuple[VideoFrame, int]]:
        try:
            for frame in self._counted() if self._probe.times_are_counted else self._in_line():
                if frame.ticks >= 0 and self._grid.cell_of(frame.ticks) >= self._first_cell:
                    yield self._on_host(frame.item) if self._on_host else frame.item, frame.ticks
        except FellBack as fall:
            if self._card is not None:
                raise NotOnCard("its time stamps jump back") from None
            raise DataError(
                f"time stamps jump back by {float(fall.by_s):.1f} s at {float(fall.at_s):.1f} s: "
                "these seem to be several recordings in one file; split it, or copy it into another container"
            ) from None

    def _in_line(self) -> Iterator[Stamped[VideoFrame]]:
        frames = self._stamped()
        first = next(frames, None)
        if first is not None:
            entered = self._probe.enterable and 0 < first.ticks * self.tick_s <= self._first_cell * self._cell_s
            yield from in_line(chain([first], frames), self.tick_s, entered=entered)

    def _stamped(self) -> Iterator[Stamped[VideoFrame]]:
        """Yield frames with the times of their time stamps. Frames without one are left out."""
        for frame in self._decoded():
            ticks = None if frame.pts is None else frame.pts - self._probe.start_pts
            if isinstance(frame, BadPacket):
                self._note_damage(ticks)
            elif ticks is not None:
                if frame.is_corrupt:
                    self._note_damage(ticks)
                yield Stamped(frame, ticks, frame.key_frame and not frame.is_corrupt)

    def _counted(self) -> Iterator[Stamped[VideoFrame]]:
        """Yield frames with times at a constant rate."""
        num_shown = 0
        for frame in self._decoded():
            if isinstance(frame, BadPacket) or frame.is_corrupt:
                self._note_damage(num_shown)
            if not isinstance(frame, BadPacket):
                yield Stamped(frame, num_shown, frame.key_frame)
                num_shown += 1

    def _decoded(self) -> Iterator[VideoFrame | BadPacket]:
        probe = self._probe
        if not probe.enterable:
            return decode_whole(self._open_source, probe.stream, threads=1, strict=False)
        target_pts = math.floor(self._pts_of(self._first_cell)) if self._first_cell > 0 else None
        if self._careful:
            return decode_carefully(self._open_source, probe.stream, target_pts, probe.start_pts)
        end_pts = None if self._end_cell == OPEN_END else math.ceil(self._pts_of(self._end_cell))
        if target_pts is None:
            return decode_whole(
                self._open_source,
                probe.stream,
                threads=self._threads,
                strict=True,
                end_pts=end_pts,
                card=self._card,
            )
        return decode_from(
            self._open_source,
            probe.stream,
            target_pts,
            probe.start_pts,
            threads=self._threads,
            strict=True,
            end_pts=end_pts,
            card=self._card,
        )

    def _pts_of(self, cell: int) -> Fraction:
        return self._probe.start_pts + cell * self._cell_s / self._probe.time_base

    def _note_damage(self, ticks: int | None) -> None:
        if self._card is not None:
            raise NotOnCard("it is damaged, or the card has failed")
        if not self._careful:
            raise Damaged
        if ticks is not None and ticks >= 0:
            self.note(self._grid.cell_of(ticks), DAMAGED)

    def note(self, cell: int, what: str) -> None:
        """Note what is odd in a cell, if the span owns it."""
        if cell >= self._first_cell and not self.is_beyond(cell):
            self.notes.add((cell, what))

    def is_beyond(self, cell: int) -> bool:
        """Return whether a cell lies behind the span."""
        return self._end_cell != OPEN_END and cell >= self._end_cell
