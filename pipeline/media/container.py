"""Open a container, enter it at a keyframe, decode from there: where a seek lands is never trusted.

Contract: the frames that `decode_from` yields at or after the time asked for are the same, bit for bit, as those of a
decode of the whole file, unless the file is damaged. The recipe: feed nothing before the last keyframe at or before
that time; if the seek landed behind it, open again and seek earlier; what comes out first must be that very keyframe,
and sound, otherwise take the keyframe before.

Never call av.logging.set_level here: with frame threads and an early end of decoding it hangs for ever.
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

Opener = Callable[[], str | BinaryIO]
"""Gives a fresh path or a fresh seekable binary file at each call; the file is closed by whoever opened it."""

MAX_ENTRIES = 8
"""Keyframes to try, one before the other, until decoding starts at the beginning of the file."""
MAX_READ_ERRORS = 32
"""Errors of the container in a row that are read over in a damaged file; behind a cut-off end there is nothing else."""

END_FRAMES = 4 + LOOK_AHEAD
"""To decode behind the end of a span: the next frame is compared with the last one inside, it may be one or two later
where time stamps are wrong, and it is judged by those that follow."""

THREADED_CODECS = frozenset({"vp9", "av1", "libdav1d"})
"""Decoded by several threads if asked to. Others take one: with frame threads FFmpeg's H.264 decoder fails to tell
that a frame is damaged once in some hundred times, and what stands in for the damage is different every time; VP8 and
HEVC too."""

SILENT_CODECS = frozenset({"hevc", "mjpeg"})
"""Do not mark damaged frames unless told to fail at every error: then also at some that do no harm."""


@contextmanager
def opened_file(open_source: Opener) -> Iterator[BinaryIO]:
    """The source as a binary file, closed at the end."""
    source = open_source()
    with open(source, "rb") if isinstance(source, str) else source as file:
        yield file


@contextmanager
def opened(open_source: Opener) -> Iterator[InputContainer]:
    """The container in the source, closed with its file at the end.

    It is read as a file whatever the source is: a name never means a protocol or a pattern of pictures to FFmpeg, and a
    playlist cannot make it read other files.
    """
    options = {"protocol_whitelist": "none"}
    with (
        opened_file(open_source) as file,
        av.open(file, "r", options=options, metadata_errors="replace") as container,
    ):
        yield container


def fraction(value: Any) -> Fraction | None:
    """A rational number of PyAV as a Fraction, None for none or 0. PyAV's own type differs between its versions."""
    return Fraction(value.numerator, value.denominator) if value else None


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The real videos: no cover pictures."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def video_stream(container: InputContainer) -> VideoStream | None:
    """The stream to watch; None if there are only sound, subtitles and cover pictures."""
    streams = video_streams(container)
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else (streams[0] if streams else None)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not be read or decoded soundly, at `pts` if that is known."""

    pts: int | None


def demux(container: InputContainer, stream: VideoStream | None) -> Iterator[Packet | Fault]:
    """The packets of `stream` (None: of all), empty ones that flush last; a Fault where the container is unreadable."""
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream) if stream else container.demux():
                errors = 0
                yield packet
            return
        except FFmpegError:
            errors += 1
            yield Fault(None)


def decode(
    packets: Iterable[Packet | Fault], stream: VideoStream, *, end_pts: int | None = None
) -> Iterator[VideoFrame | Fault]:
    """The frames in the order in which the decoder puts them out; a Fault where it cannot.

    end_pts: stop when END_FRAMES frames in a row lie at or after it: single time stamps may be wrong. Frames before it
    may refer to frames behind it: of what the decoder has in hand at the end, damage is told before the last frames.
    """
    beyond = 0
    for packet in packets:
        if isinstance(packet, Fault):
            yield packet
            continue
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except FFmpegError:
            yield Fault(packet.pts if packet.pts is not None else packet.dts)
            continue
        if packet.is_corrupt:
            yield Fault(packet.pts if packet.pts is not None else packet.dts)
        if end_pts is not None:
            for frame in frames:
                beyond = beyond + 1 if frame.pts is not None and frame.pts >= end_pts else 0
        if beyond >= END_FRAMES:
            if packet.size:
                frames += stream.codec_context.decode(None)
            yield from [Fault(frame.pts) for frame in frames if frame.is_corrupt]
            yield from frames
            return
        yield from frames


def decode_whole(
    open_source: Opener, stream_index: int, *, threads: int, strict: bool, end_pts: int | None = None
) -> Iterator[VideoFrame | Fault]:
    """The frames from the start of the file to those at and after `end_pts`; None: all. strict: see
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
) -> Iterator[VideoFrame | Fault]:
    """The frames from the last sound keyframe at or before `target_pts` on, that one first, without its leading frames.

    start_pts: of the first displayed frame. strict: rather a Fault too many than one too few. end_pts: stop there,
    see `decode`; None: at the end.
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
) -> Iterator[VideoFrame | Fault]:
    """As `decode_from`, or from the start of the file if `target_pts` is None, in a file that is damaged.

    What conceals damage depends on all that the decoder has seen. So each group of pictures has a decoder of its own,
    that starts at its keyframe (an unsound keyframe starts no group): damage looks the same wherever decoding began.
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


def _decode_group(open_source: Opener, stream_index: int, key_pts: int, start_pts: int) -> Iterator[VideoFrame | Fault]:
    """The frames from exactly the keyframe at `key_pts` on; none if the decoder cannot start there."""
    with opened_at(open_source, stream_index, key_pts, start_pts, threads=1, strict=False) as entry:
        if entry is not None and entry[0] == key_pts:
            yield from _entered(decode(_flushed(entry[1]), entry[2]), key_pts)


def _entered(frames: Iterator[VideoFrame | Fault], key_pts: int) -> Iterator[VideoFrame | Fault]:
    """Drop what comes before the keyframe at `key_pts`, its leading frames; nothing at all if that does not come
    out."""
    faults: list[Fault] = []
    for frame in frames:
        if isinstance(frame, Fault):
            faults.append(frame)
        elif frame.pts is not None and frame.pts >= key_pts:
            if is_entry(frame, key_pts):
                yield frame
                yield from faults
                yield from frames
            return


def is_entry(frame: VideoFrame, key_pts: int) -> bool:
    """Whether the first frame that came out shows that decoding may start at the keyframe at `key_pts`."""
    return frame.pts == key_pts and frame.key_frame and not frame.is_corrupt


@contextmanager
def opened_at(
    open_source: Opener, stream_index: int, target_pts: int, start_pts: int, *, threads: int, strict: bool
) -> Iterator[tuple[int, Iterator[Packet | Fault], VideoStream] | None]:
    """A fresh container at the last keyframe at or before `target_pts`: its pts, the packets from it on, the stream.

    None if there is no such keyframe behind the first displayed frame: then read from the start.
    """
    back_s = 0
    while True:
        with opened(open_source) as container:
            stream = _prepared(container, stream_index, threads, strict=strict)
            offset = target_pts - int(back_s / (fraction(stream.time_base) or 1))
            from_start = offset <= start_pts
            found = None
            with suppress(FFmpegError):
                # However seeking works in this file, reading from its start finds the keyframe if there is one.
                if not from_start:
                    container.seek(offset, backward=True, stream=stream)
                found = _find(demux(container, stream), target_pts, from_start=from_start)
            if found is not None or from_start:
                yield (*found, stream) if found is not None and found[0] > start_pts else None
                return
        back_s = 2 * back_s or 1


def _find(
    packets: Iterator[Packet | Fault], target_pts: int, *, from_start: bool
) -> tuple[int, Iterator[Packet | Fault]] | None:
    """The last keyframe at or before `target_pts`, and the packets from it on; None if there is none in `packets`."""
    held: list[Packet | Fault] = []
    key_pts: int | None = None
    for packet in packets:
        if isinstance(packet, Fault):
            held.append(packet)
            continue
        if packet.is_keyframe and packet.pts is not None and not packet.is_discard:
            if packet.pts <= target_pts:
                key_pts, held = packet.pts, []
            elif key_pts is None and not from_start:
                return None  # the seek landed behind what is sought
        if key_pts is not None:
            held.append(packet)
        # Nothing is shown before it is decoded: behind this packet there is no keyframe at or before the target.
        if packet.dts is not None and packet.dts > target_pts and (key_pts is not None or from_start):
            break
    return None if key_pts is None else (key_pts, chain(held, packets))


def _flushed(packets: Iterable[Packet | Fault]) -> Iterator[Packet | Fault]:
    """The packets and, if errors of the container kept it away, the empty one that flushes the decoder."""
    last = None
    for last in packets:
        yield last
    if last is None or isinstance(last, Fault):
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
