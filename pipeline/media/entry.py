"""Decode a video from a keyframe in its middle, without trusting where a seek lands.

Contract: the frames that `decode_from` yields at or after the requested time are equal, bit for bit, to those of a
decode of the whole file, unless the file is damaged. For this, nothing before the last keyframe at or before that
time is fed to the decoder. If the seek landed behind that keyframe, the file is opened again and the seek goes
further back. The first decoded frame must be that very keyframe, and undamaged. Otherwise the keyframe before it is
tried.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.container import BadPacket, Opener, decode, demux, fraction, reopened
from pipeline.media.nvdec import CardDecoder
from pipeline.media.sizes import DECODER_OPTIONS

ENTRY_TRIES = 3
"""Number of keyframes at which a probe tries to enter, each before the last."""
MAX_ENTRIES = 8
"""Number of keyframes to try, each before the last, until decoding starts at the beginning of the file."""
THREADED_CODECS = frozenset({"vp9", "av1", "libdav1d"})
"""Codecs that may use several decoder threads. All others use one. With frame threads, FFmpeg's H.264 decoder misses
a damaged frame about once in some hundred times, and what replaces the damage differs each time. The same holds for
VP8 and HEVC."""
SILENT_CODECS = frozenset({"hevc", "mjpeg"})
"""Codecs that mark damaged frames only when they must fail at every error. They then also fail at some harmless
errors."""


def decode_whole(
    open_source: Opener,
    stream_index: int,
    *,
    threads: int,
    strict: bool,
    end_pts: int | None = None,
    card: CardDecoder | None = None,
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames from the start of the file to the first ones at or after `end_pts`, or all frames for None.

    strict, card: as in `decode_from`.
    """
    with reopened(open_source, card) as container:
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
    card: CardDecoder | None = None,
) -> Iterator[VideoFrame | BadPacket]:
    """Yield the frames from the last undamaged keyframe at or before `target_pts` on, without its leading frames.

    start_pts: pts of the first displayed frame.
    strict: report every decoding error, even where it may be harmless.
    end_pts: stop there, as `decode` does; None: at the end.
    card: decodes instead of the CPU. It raises NotOnCard.
    """
    for _ in range(MAX_ENTRIES):
        with opened_at(
            open_source, stream_index, target_pts, start_pts, threads=threads, strict=strict, card=card
        ) as entry:
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
    yield from decode_whole(open_source, stream_index, threads=threads, strict=strict, end_pts=end_pts, card=card)


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


def find_entry(open_source: Opener, stream_index: int, start_pts: int, targets: Sequence[int]) -> VideoFrame | None:
    """Return a frame at or before one of the `targets` at which decoding can begin, None if there is none.

    The frame must prove it: with intra refresh, packets are marked as keyframes and frames are not.
    """
    for target in targets:
        target_pts = target
        for _ in range(ENTRY_TRIES):
            with opened_at(open_source, stream_index, target_pts, start_pts, threads=1, strict=False) as entry:
                if entry is None:
                    break
                key_pts, packets, stream = entry
                for frame in decode(packets, stream):
                    if isinstance(frame, VideoFrame) and frame.pts is not None and frame.pts >= key_pts:
                        if is_entry(frame, key_pts):
                            return frame
                        break
            target_pts = key_pts - 1
    return None


@contextmanager
def opened_at(
    open_source: Opener,
    stream_index: int,
    target_pts: int,
    start_pts: int,
    *,
    threads: int,
    strict: bool,
    card: CardDecoder | None = None,
) -> Iterator[tuple[int, Iterator[Packet | BadPacket], VideoStream] | None]:
    """Open a fresh container at the last keyframe at or before `target_pts`.

    Yields the pts of the keyframe, the packets that begin with it, and the stream. Yields None if no such keyframe lies
    behind the first displayed frame: then read from the start.
    """
    back_s = 0
    while True:
        with reopened(open_source, card) as container:
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


def is_entry(frame: VideoFrame, key_pts: int) -> bool:
    """Return whether `frame`, the first decoded one, proves that decoding may start at the keyframe at `key_pts`."""
    return frame.pts == key_pts and frame.key_frame and not frame.is_corrupt


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


def _find(
    packets: Iterator[Packet | BadPacket], target_pts: int, *, from_start: bool
) -> tuple[int, Iterator[Packet | BadPacket]] | None:
    """Return the pts of the last keyframe at or before `target_pts`, and the packets that begin with it. None if there
    is none."""
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
    is_silent = strict and codec.name in SILENT_CODECS
    codec.options = DECODER_OPTIONS | ({"err_detect": "explode"} if is_silent else {})
    codec.thread_type = "FRAME" if codec.thread_count > 1 else "NONE"
    return stream
