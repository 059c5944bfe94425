"""Join the pieces of a copied video (`rewrite`), with its sound, to an MP4 file that plays while a browser loads it."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.errors import DataError
from pipeline.media.container import Opener, fraction, opened
from pipeline.media.probe import Probe
from pipeline.media.rewrite import Piece, copy_time_base
from pipeline.media.sound import Sound, TimedPacket

FINE_SCALE = 10_000
"""Least ticks a second of the file's clock."""
LARGEST_SCALE = (1 << 31) - 1
KEPT_START_S = 1
"""Seconds. A video that starts at most so long after zero, or before, keeps its time stamps. Others are shifted to
zero, so that a player does not wait."""


def join_pieces(
    open_source: Opener,
    probe: Probe,
    pieces: Sequence[tuple[Piece, Opener]],
    path: Path,
    *,
    closes_up: bool,
    keeps_sound: bool = True,
) -> str | None:
    """Write the joined pieces of a video, in order, to an MP4 file at `path`. Return a remark about its sound, or None.

    closes_up: no pause is left where frames were left out between pieces. The copy has no sound then.
    keeps_sound: whether the copy has the sound of the source.

    Raises DataError if there is no frame, or if the pieces cannot be joined.
    """
    pieces = [(piece, open_piece) for piece, open_piece in pieces if piece.num_frames]
    if not pieces:
        raise DataError("there is no frame to copy")
    base = copy_time_base(probe)
    scale = _scale(base)
    options = {"movflags": "+faststart", "video_track_timescale": str(scale), "movie_timescale": str(scale)}
    with ExitStack() as stack:
        output = stack.enter_context(av.open(path, "w", format="mp4", options=options))
        sound, source = None, None
        with opened(pieces[0][1]) as first:
            template = first.streams.video[0]
            stream = output.add_stream_from_template(template)
            assert isinstance(stream, VideoStream)
            stream.time_base = Fraction(1, scale)
            if template.codec_context.name == "hevc":
                stream.codec_context.codec_tag = "hvc1"  # players of Apple know no other
        video_start_s = Fraction(0) if closes_up else probe.start_pts * probe.time_base
        if keeps_sound and not closes_up:
            source = stack.enter_context(opened(open_source))
            sound = Sound(source, output)
        starts = [video_start_s, *([sound.start_s] if sound and sound.start_s is not None else [])]
        zero_s = Fraction(0) if abs(min(starts)) <= KEPT_START_S else min(starts)
        start_s = video_start_s - zero_s
        video = _video_packets(pieces, stream, Fraction(1, scale), base, start_s, closes_up=closes_up)
        tracks: list[Iterable[TimedPacket]] = [video, *([sound.packets(zero_s)] if sound else [])]
        try:
            for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):
                output.mux(packet)
        except FFmpegError as error:
            raise DataError(f"its copy cannot be joined: {error.strerror}") from None
    return f"its sound ({', '.join(sound.names)}) is encoded again, as AAC" if sound and sound.names else None


def _video_packets(
    pieces: Sequence[tuple[Piece, Opener]],
    stream: VideoStream,
    tick: Fraction,
    base: Fraction,
    start_s: Fraction,
    *,
    closes_up: bool,
) -> Iterator[TimedPacket]:
    """Yield the packets of all pieces, each with its duration. The video's first frame is shown at `start_s`.

    tick: seconds of one unit of the packets' time stamps.
    base: seconds of one unit of the pieces' time stamps.
    """
    last: Packet | None = None
    ended = 0
    for piece, open_piece in pieces:
        shift = ended - piece.start if closes_up else 0
        ended = piece.end + shift
        with opened(open_piece) as container:
            for packet in container.demux(video=0):
                if not packet.size or packet.pts is None:
                    continue
                time_s = packet.pts * (fraction(packet.time_base) or base) + shift * base + start_s
                packet.stream, packet.time_base = stream, tick
                packet.pts = packet.dts = round(time_s / tick)
                if last is not None:
                    yield _lasting(last, packet.pts, tick)
                last = packet
    if last is not None:
        yield _lasting(last, round((ended * base + start_s) / tick), tick)


def _lasting(packet: Packet, end: int, tick: Fraction) -> TimedPacket:
    start = packet.dts or 0
    packet.duration = max(1, end - start)
    return start * tick, packet


def _scale(base: Fraction) -> int:
    """Return ticks a second that express every time stamp in `base` exactly, if MP4 can."""
    scale = base.denominator * max(1, -(-FINE_SCALE // base.denominator))
    return scale if scale <= LARGEST_SCALE else 1_000_000
