"""Open a container, enter it at a keyframe and decode from there, without trusting where a seek lands.

Contract: the frames that `decode_from` yields at or after the requested time are equal, bit for bit, to those of a
    decode of the whole file, unless the file is damaged. For this, nothing before the last keyframe at or before
    that time is fed to the decoder. If the seek landed behind that keyframe, the file is opened again and the seek
    goes further back. The first decoded frame must be that very keyframe, and undamaged. Otherwise the keyframe
    before it is tried.

Never call av.logging.set_level here: with frame threads and an early end of decoding it hangs forever.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.cores.stamps import LOOK_AHEAD
from pipeline.errors import DataError, blame_machine

Opener = Callable[[], str | BinaryIO]
"""Returns a fresh path or a fresh seekable binary file at each call. The caller closes the file."""

MAX_ENTRIES = 8
"""Number of keyframes to try, each before the last, until decoding starts at the beginning of the file."""
MAX_READ_ERRORS = 32
"""Number of successive read errors that are skipped in a damaged file. Behind a cut-off end there are only errors."""

END_FRAMES = 4 + LOOK_AHEAD
"""Number of frames to decode behind the end of a span. The next frame is compared with the last one inside. It may
come one or two frames later where time stamps are wrong, and the frames after it decide which stamps are wrong."""

THREADED_CODECS = frozenset({"vp9", "av1", "libdav1d"})
"""Codecs that may use several decoder threads. All others use one. With frame threads, FFmpeg's H.264 decoder misses
a damaged frame about once in some hundred times, and what replaces the damage differs each time. The same holds for
VP8 and HEVC."""

SILENT_CODECS = frozenset({"hevc", "mjpeg"})
"""Codecs that mark damaged frames only when they must fail at every error. They then also fail at some harmless
errors."""


@contextmanager
def opened_file(open_source: Opener) -> Iterator[BinaryIO]:
    """Yield the source as a binary file and close it at the end. Raises DataError where it cannot be opened."""
    try:
        source = open_source()
        file = open(source, "rb") if isinstance(source, str) else source  # noqa: SIM115
    except OSError as error:  # the file is gone, or its store does not answer
        blame_machine(error)
        raise DataError(f"cannot be read: {error.strerror or error}") from None
    with file:
        yield file


@contextmanager
def opened(open_source: Opener) -> Iterator[InputContainer]:
    """Yield the container in the source and close it with its file at the end.

    Every source is read as a file. So FFmpeg never takes a name for a protocol or a pattern of pictures, and a
    playlist cannot make it read other files.
    """
    options = {"protocol_whitelist": "none"}
    with (
        opened_file(open_source) as file,
        av.open(file, "r", options=options, metadata_errors="replace") as container,
    ):
        yield container


def fraction(value: Any) -> Fraction | None:
    """Return a rational number of PyAV as a Fraction, None for None or 0. PyAV's own type differs between its
    versions."""
    return Fraction(value.numerator, value.denominator) if value else None


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover pictures."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the video stream to process, None if there are only sound, subtitles and cover pictures."""
    streams = video_streams(container)
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else (streams[0] if streams else None)


@dataclass(frozen=True, slots=True)
class BadPacket:
    """A packet or frame that could not be read or decoded without errors.

    pts: in the stream's time base. None if it is not known.
    """

    pts: int | None


def demux(container: InputContainer, stream: VideoStream | None) -> Iterator[Packet | BadPacket]:
    """Yield the packets of `stream` (None: of all streams), with the empty ones at the end that flush the decoder.

    Yields a BadPacket for each place where the container cannot be read.
    """
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream) if stream else container.demux():
                errors = 0
                yield packet
            return
        except FFmpegError:
            errors += 1
            yield BadPacket(None)


def decode(
    packets: Iterable[Packet | BadPacket], stream: VideoStream, *, end_pts: int | None = None
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames in the decoder's order of output, and a BadPacket for each decoding error.

    Frames before `end_pts` may refer to frames behind it. So at the end the decoder is flushed, and damage among the
    flushed frames is yielded before the frames.

    end_pts: stop when END_FRAMES frames in a row lie at or after it, because a single time stamp may be wrong.
    """
    beyond = 0
    for packet in packets:
        if isinstance(packet, BadPacket):
            yield packet
            continue
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except FFmpegError:
            yield BadPacket(packet.pts if packet.pts is not None else packet.dts)
            continue
        if packet.is_corrupt:
            yield BadPacket(packet.pts if packet.pts is not None else packet.dts)
        if end_pts is not None:
            for frame in frames:
                beyond = beyond + 1 if frame.pts is not None and frame.pts >= end_pts else 0
        if beyond >= END_FRAMES:
            if packet.size:
                frames += stream.codec_context.decode(None)
            yield from [BadPacket(frame.pts) for frame in frames if frame.is_corrupt]
            yield from frames
            return
        yield from frames


def decode_whole(
    open_source: Opener, stream_index: int, *, threads: int, strict: bool, end_pts: int | None = None
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames from the start of the file to those at and after `end_pts`; None: all. `strict` is as in
    `decode_from`."""
    with opened(open_source) as container:
        stream = _prepared(container, stream_index, threads, strict=strict)
        yield from decode(_flushed(demux(container, stream)), stream, end_pts=end_pts)


def decode_from(
    open_source: Opener,
    stream_index: int,
    target_pts: int,
    start_pts: int,
    *,
    threads: int,
    strict: bool,
    end_pts: int | None = None,
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames from the last undamaged keyframe at or before `target_pts` on, without its leading frames.

    start_pts: pts of the first displayed frame.
    strict: report every decoding error, even where it may be harmless.
    end_pts: stop there, as `decode` does; None: at the end.
    """
    for _ in range(MAX_ENTRIES):
        with opened_at(open_source, stream_index, target_pts, start_pts, threads=threads, strict=strict) as entry:
            if entry is None:
                break
            key_pts, packets, stream = entry
            frames = _entered(decode(_flushed(packets), stream, end_pts=end_pts), key_pts)
            first = next(frames, None)
            if first is not None:
                yield first
                yield from frames
                return
        target_pts = key_pts - 1
    yield from decode_whole(open_source, stream_index, threads=threads, strict=strict, end_pts=end_pts)


def decode_carefully(
    open_source: Opener, stream_index: int, target_pts: int | None, start_pts: int
) -> Iterator[VideoFrame | BadPacket]:
    """Decode a damaged file as `decode_from` does, or from the start of the file if `target_pts` is None.

    FFmpeg conceals damage with the help of everything it has decoded before. So each group of pictures gets a fresh
    decoder that starts at its keyframe, and damage looks the same wherever decoding began. A damaged keyframe starts
    no group.
    """
    if target_pts is None:
        frames = decode_whole(open_source, stream_index, threads=1, strict=False)
    else:
        frames = decode_from(open_source, stream_index, target_pts, start_pts, threads=1, strict=False)
    group_pts: int | None = None
    while frames is not None:
        following = None
        for frame in frames:
            if isinstance(frame, VideoFrame) and frame.pts is not None:
                if group_pts is not None and frame.pts > group_pts and is_entry(frame, frame.pts):
                    following = _decode_group(open_source, stream_index, frame.pts, start_pts)
                    first = next(following, None)
                    if first is not None:
                        group_pts = frame.pts
                        yield first
                        break
                    following = None
                group_pts = frame.pts if group_pts is None else group_pts
            yield frame
        frames = following


def _decode_group(
    open_source: Opener, stream_index: int, key_pts: int, start_pts: int
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames from exactly the keyframe at `key_pts` on, none if the decoder cannot start there."""
    with opened_at(open_source, stream_index, key_pts, start_pts, threads=1, strict=False) as entry:
        if entry is not None and entry[0] == key_pts:
            yield from _entered(decode(_flushed(entry[1]), entry[2]), key_pts)


def _entered(frames: Iterator[VideoFrame | BadPacket], key_pts: int) -> Iterator[VideoFrame | BadPacket]:
    """Drop the leading frames before the keyframe at `key_pts`. Yield nothing if the decoder does not put out that
    keyframe."""
    bad_packets: list[BadPacket] = []
    for frame in frames:
        if isinstance(frame, BadPacket):
            bad_packets.append(frame)
        elif frame.pts is not None and frame.pts >= key_pts:
            if is_entry(frame, key_pts):
                yield frame
                yield from bad_packets
                yield from frames
            return


def is_entry(frame: VideoFrame, key_pts: int) -> bool:
    """Return whether `frame`, the first decoded one, proves that decoding may start at the keyframe at `key_pts`."""
    return frame.pts == key_pts and frame.key_frame and not frame.is_corrupt


@contextmanager
def opened_at(
    open_source: Opener, stream_index: int, target_pts: int, start_pts: int, *, threads: int, strict: bool
) -> Iterator[tuple[int, Iterator[Packet | BadPacket], VideoStream] | None]:
    """Open a fresh container at the last keyframe at or before `target_pts`; yield its pts, the packets from it on,
    the stream.

    Yields None if there is no such keyframe behind the first displayed frame. The caller then reads from the start.
    """
    back_s = 0
    while True:
        with opened(open_source) as container:
            stream = _prepared(container, stream_index, threads, strict=strict)
            offset = target_pts - int(back_s / (fraction(stream.time_base) or 1))
            from_start = offset <= start_pts
            entry = None
            with suppress(FFmpegError):
                # Seeking may fail in some files, but a read from the start finds the keyframe if there is one.
                if not from_start:
                    container.seek(offset, backward=True, stream=stream)
                entry = _find(demux(container, stream), target_pts, from_start=from_start)
            if entry is not None or from_start:
                yield (*entry, stream) if entry is not None and entry[0] > start_pts else None
                return
        back_s = 2 * back_s or 1


def _find(
    packets: Iterator[Packet | BadPacket], target_pts: int, *, from_start: bool
) -> tuple[int, Iterator[Packet | BadPacket]] | None:
    """Return the last keyframe at or before `target_pts` and the packets from it on, None if `packets` hold none."""
    held: list[Packet | BadPacket] = []
    key_pts: int | None = None
    for packet in packets:
        if isinstance(packet, BadPacket):
            held.append(packet)
            continue
        if packet.is_keyframe and packet.pts is not None and not packet.is_discard:
            if packet.pts <= target_pts:
                key_pts, held = packet.pts, []
            elif key_pts is None and not from_start:
                return None  # the seek landed behind the target
        if key_pts is not None:
            held.append(packet)
        # No frame is shown before it is decoded. So no keyframe behind this packet lies at or before the target.
        if packet.dts is not None and packet.dts > target_pts and (key_pts is not None or from_start):
            break
    return None if key_pts is None else (key_pts, chain(held, packets))


def _flushed(packets: Iterable[Packet | BadPacket]) -> Iterator[Packet | BadPacket]:
    """Yield the packets, and the empty one that flushes the decoder if read errors kept it away."""
    last = None
    for last in packets:
        yield last
    if last is None or isinstance(last, BadPacket):
        yield Packet()


def _prepared(container: InputContainer, stream_index: int, threads: int, *, strict: bool) -> VideoStream:
    stream = container.streams[stream_index]
    if not isinstance(stream, VideoStream):
        raise TypeError(f"stream {stream_index} must be video, got {stream.type}")
    codec = stream.codec_context
    codec.thread_count = threads if codec.name in THREADED_CODECS else 1
    if strict and codec.name in SILENT_CODECS:
        codec.options = {"err_detect": "explode"}
    codec.thread_type = "FRAME" if codec.thread_count > 1 else "NONE"
    return stream
