"""Make a copy of a video in which a function has drawn on every frame. Spans are made one by one, in any place, and
joined without encoding again.

Laws:
- Every displayed frame of the source is in the copy, once and in order, with its time stamp (`shown`).
- A piece is the frames of a span, in packets of which the first needs no other piece.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import IO, Self

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.cores.plan import NS
from pipeline.errors import DataError
from pipeline.media.ahead import ahead
from pipeline.media.canvas import Canvas
from pipeline.media.container import Opener
from pipeline.media.encoders import Encoding, make_encoder
from pipeline.media.planar import PlanarScreen
from pipeline.media.probe import Probe
from pipeline.media.shown import Damaged, ShownFrames

Paint = Callable[[Canvas, int], bool]
"""Draws on a frame. It gets the frame's time in ns from the first displayed frame, as in `detections`, and returns
whether the frame stays in the copy."""
CELL_S = Fraction(1)
FRAMES_AHEAD = 4
"""Decoded frames that wait for the encoder. At 4K each takes 12 MB."""
PIECE_FORMAT = "nut"
"""It keeps every time base exactly."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The facts about the copy of a span.

    num_frames: number of frames. Without any, the file of the piece has no packets.
    start, end: begin of the first frame and end of the last one, in `copy_time_base` from the first displayed frame.
        If frames were left out, the rest follows without pauses, and `end` is where the last one ends then.
    is_damaged: the source is damaged there.
    """

    num_frames: int
    start: int
    end: int
    is_damaged: bool

    def to_json(self) -> str:
        """Return one line of JSON that from_json turns into an equal value."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the Piece that to_json wrote."""
        return cls(**json.loads(text))


def copy_time_base(probe: Probe) -> Fraction:
    """Return the seconds of one unit of time stamps in a copy: exact for every frame of the source."""
    return 1 / probe.fps if probe.times_are_counted else probe.time_base


def rewrite_span(
    open_source: Opener,
    probe: Probe,
    first_cell: int,
    end_cell: int,
    paint: Paint,
    encoding: Encoding,
    file: IO[bytes],
) -> Piece:
    """Write the copy of a span of a video to an empty file: the displayed frames of the cells [first_cell, end_cell).

    end_cell: OPEN_END (-1) means the end of the video.

    Raises DataError if the source cannot be decoded. Damaged places are copied as they are displayed.
    """
    try:
        return _rewrite(open_source, probe, first_cell, end_cell, paint, encoding, file, careful=False)
    except Damaged:
        file.seek(0)
        file.truncate()
        return _rewrite(open_source, probe, first_cell, end_cell, paint, encoding, file, careful=True)


def _rewrite(
    open_source: Opener,
    probe: Probe,
    first_cell: int,
    end_cell: int,
    paint: Paint,
    encoding: Encoding,
    file: IO[bytes],
    *,
    careful: bool,
) -> Piece:
    source = ShownFrames(
        open_source, probe, first_cell, end_cell, cell_s=CELL_S, threads=encoding.threads, careful=careful
    )
    screen = PlanarScreen(probe, encoding.scale)
    num_frames, start, end = 0, 0, 0
    with (
        av.open(file, "w", format=PIECE_FORMAT) as output,
        contextlib.closing(ahead(_timed(source, screen, probe), FRAMES_AHEAD)) as frames,  # pyright: ignore[reportArgumentType]
    ):
        encoder: VideoCodecContext | None = None
        stream = None
        for frame, time_s, pts, next_pts in frames:
            if not paint(screen.canvas(frame), int(time_s * NS)):
                continue
            if encoder is None or stream is None:
                base = copy_time_base(probe)
                assert screen.coding is not None
                encoder = make_encoder(encoding, (frame.width, frame.height), probe.fps, base, screen.coding)
                stream = output.add_mux_stream(encoder.codec.canonical_name, width=frame.width, height=frame.height)
                stream.time_base = base
                start = end = pts
            # Frames that are left out leave no pause behind.
            frame.pts, frame.time_base = end, copy_time_base(probe)
            end += next_pts - pts
            num_frames += 1
            _write(output, stream, _encoded(encoder, frame))
        if encoder is not None and stream is not None:
            _write(output, stream, _encoded(encoder, None))
    return Piece(num_frames, start, end, bool(source.notes))


def _timed(source: ShownFrames, screen: PlanarScreen, probe: Probe) -> Iterator[tuple[VideoFrame, Fraction, int, int]]:
    """Yield the frames of the span as displayed, with their times in seconds, and their and the next frame's stamps."""
    base = copy_time_base(probe)
    last: tuple[VideoFrame, Fraction, int] | None = None
    last_lasts = 0
    for frame, ticks in source:
        time_s = ticks * source.tick_s
        pts = round(time_s / base)
        if last is not None:
            yield *last, pts
        if source.is_beyond(int(time_s // CELL_S)):
            return
        last, last_lasts = (screen(frame), time_s, pts), frame.duration or 0
    if last is not None:
        stated = 0 if probe.times_are_counted else last_lasts
        yield *last, last[2] + (stated or max(1, round(1 / probe.fps / base)))


def _encoded(encoder: VideoCodecContext, frame: VideoFrame | None) -> list[Packet]:
    try:
        return list(encoder.encode(frame))
    except FFmpegError as error:
        raise DataError(f"{encoder.name} cannot encode it: {error.strerror}; choose another --codec") from None


def _write(output: OutputContainer, stream: Stream, packets: list[Packet]) -> None:
    for packet in packets:
        packet.stream = stream
        output.mux(packet)
