"""What must be known about a source before it is decoded: its size, its time zero, where and whether it can be entered.

Contract: a Probe is a function of the bytes alone, and says what is displayed: rotation, pixel aspect and edit lists
applied; time zero is the first frame that the decoder puts out. It costs the header, a few frames and a try to enter; a
file without an index is read through, if it is small or does not say how long it is. A DataError tells a person what is
wrong with the source.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Self, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Picture
from pipeline.cores.plan import NS
from pipeline.errors import DataError
from pipeline.media.container import (
    Fault,
    Opener,
    decode,
    demux,
    fraction,
    is_entry,
    opened,
    opened_at,
    opened_file,
    video_stream,
)

__all__ = ["Opener", "Probe", "describe_warnings", "probe", "read_picture"]

MIN_SIDE_PX = 16
"""Smaller pictures are refused: nobody can be seen on them, and nothing of them is left after a detector's strides."""
HEAD_FRAMES = 64
"""Decoded to see whether the time stamps rise; H.264 and HEVC re-order over at most 16 frames."""
HEAD_PACKETS = 2000
"""Read at most so far to find the first frame that can be decoded."""
SMALL_BYTES = 64 << 20
"""A file without an index is read through up to here: for its content id it is read anyway."""
ENTRY_TRIES = 3
FALL_BACK_S = 1
"""Time stamps that jump back by more than this show pieces of several recordings in one file."""
DEFAULT_RATE = Fraction(25)
LEAST_INDEXED = Fraction(9, 10)
"""An index that reaches over less of the duration is one of a part only, as in fragmented files."""
KEYFRAME_GAP = Fraction(1, 2)
"""Seconds; of keyframes that are closer, as where every frame is one, only the first is remembered."""
STATING_FORMATS = frozenset({"matroska", "mov", "avi", "flv", "asf"})
"""Their headers say how long the video is; FFmpeg guesses it from the bytes for others."""
UNSET_CLOCK_YEAR = 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What there is to know about a source.

    width, height: px as displayed. rotation: degrees counter-clockwise, 0, 90, 180 or 270. sample_aspect: width of a
    stored pixel over its height. fps: frames a second on average. start_pts: of time zero, in time_base. duration_s:
    as the header says, it may be wrong; 0: unknown. keyframe_ns: from time zero, approximate, may be empty.
    enterable: may be entered in the middle. stamped: the time stamps do not rise, so a frame's time is its place in
    the order of output over `fps`. recorded_at: ISO, UTC. stream: index in the container. warning: what a person
    should know.
    """

    kind: Literal["video", "image"]
    width: int
    height: int
    rotation: int
    sample_aspect: Fraction
    codec: str
    fps: Fraction
    time_base: Fraction
    start_pts: int
    duration_s: float
    keyframe_ns: tuple[int, ...]
    enterable: bool
    stamped: bool
    recorded_at: str | None
    stream: int
    warning: str | None

    def time_of(self, pts: int) -> Fraction:
        """Exact seconds from the first displayed frame."""
        return (pts - self.start_pts) * self.time_base

    def without_keyframes(self) -> Self:
        """All that decoding needs: the keyframes serve the plan alone, and there are thousands in an hour."""
        return replace(self, keyframe_ns=())

    def to_json(self) -> str:
        """One line that from_json turns into an equal value."""
        return json.dumps({k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The value that to_json was called on."""
        fields = json.loads(text)
        fractions = {name: Fraction(fields[name]) for name in ("sample_aspect", "fps", "time_base")}
        return cls(**{**fields, **fractions, "keyframe_ns": tuple(fields["keyframe_ns"])})


def probe(open_source: Opener) -> Probe:
    """Look at a source; raises DataError with a reason that a person understands."""
    try:
        with opened_file(open_source) as file:
            if not file.read(1):
                raise DataError("the file is empty")
        with opened(open_source) as container:
            if container.format.name.endswith("_pipe") or container.format.name == "image2":
                return _probe_picture(open_source, container)
            return _probe_video(open_source, container)
    except FFmpegError as error:
        raise DataError(_why_unreadable(open_source, error)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from None


def read_picture(open_source: Opener) -> Picture:
    """An image file as it is displayed, EXIF orientation applied; raises DataError."""
    with opened_file(open_source) as file:
        encoded = file.read()
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DataError(f"the picture cannot be decoded: {error.err}") from None
    if picture is None:
        raise DataError("the picture cannot be decoded: it is cut off, damaged, or of a kind that OpenCV does not read")
    return np.asarray(picture, np.uint8)


def describe_warnings(probe: Probe, damaged: Iterable[int], last_ns: int, cell_seconds: float) -> str | None:
    """What a person should know about a whole video: the same sentence whatever the length of its chunks.

    damaged: cells with frames that could not be decoded soundly, of all chunks together (`decode.damaged_cells` reads
    them from the chunks' warnings). last_ns: time of the last frame.
    """
    said = [probe.warning] if probe.warning else []
    runs: list[list[int]] = []
    for cell in sorted(set(damaged)):
        if runs and cell == runs[-1][1]:
            runs[-1][1] = cell + 1
        else:
            runs.append([cell, cell + 1])
    if runs:
        spans = ", ".join(f"{first * cell_seconds:g} to {end * cell_seconds:g} s" for first, end in runs[:5])
        said.append(f"damaged at {spans}" + (f" and {len(runs) - 5} more places" if len(runs) > 5 else ""))
    end_s = last_ns / NS + float(1 / probe.fps)
    if probe.kind == "video" and _is_short(end_s, probe.duration_s):
        said.append(f"ends early: {end_s:.1f} of {probe.duration_s:.1f} s")
    return "; ".join(said) or None


def _is_short(end_s: float, duration_s: float) -> bool:
    """Whether so much is missing that it is not a matter of rounding, or of sound that goes on a little longer."""
    return duration_s - end_s > max(1.0, 0.05 * duration_s)


def _probe_picture(open_source: Opener, container: InputContainer) -> Probe:
    height, width = read_picture(open_source).shape[:2]
    _check_size(width, height)
    stream = video_stream(container)
    return Probe(
        kind="image",
        width=width,
        height=height,
        rotation=0,
        sample_aspect=Fraction(1),
        codec=stream.codec_context.name if stream else container.format.name,
        fps=DEFAULT_RATE,
        time_base=Fraction(1, NS),
        start_pts=0,
        duration_s=0.0,
        keyframe_ns=(),
        enterable=False,
        stamped=True,
        recorded_at=None,
        stream=0,
        warning=None,
    )


def _probe_video(open_source: Opener, container: InputContainer) -> Probe:
    stream = video_stream(container)
    if stream is None:
        kinds = sorted({stream.type for stream in container.streams})
        raise DataError(f"holds no video, only {' and '.join(kinds) or 'nothing that is known'}")
    formats = set(container.format.name.split(","))
    time_base, delay, head = fraction(stream.time_base), *_head(container, stream)
    if not head or not time_base:
        raise DataError(f"no frame of its {stream.codec_context.name} video can be decoded")
    first, stamps = head[0], [frame.pts for frame in head]
    stamped = None in stamps or any(b <= a for a, b in pairwise(cast(list[int], stamps)))
    start_pts = first.pts or 0

    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    rotation = round(first.rotation / 90) % 4 * 90
    across, down = max(1, round(first.width * aspect)), first.height
    width, height = (down, across) if rotation % 180 else (across, down)
    _check_size(width, height)

    fps = fraction(stream.average_rate) or fraction(stream.guessed_rate) or DEFAULT_RATE
    duration_s = _duration(container, stream, time_base)
    keys = [key + delay if "mov" in formats else key for key in _index(container, stream, duration_s, time_base)]
    size = _size(open_source)
    if not keys and (duration_s <= 0 or size <= SMALL_BYTES):
        through = _read_through(open_source, stream.index, start_pts, fps)
        stamped = stamped or through.falls_back
        keys = through.keys
        # A header that promises more than there is of sound and pictures shows that the file is cut off.
        is_cut = bool(formats & STATING_FORMATS) and _is_short(float(through.end_s), float(duration_s))
        duration_s = duration_s if is_cut else through.video_end_s
    keys = [key for key in sorted(keys) if key >= start_pts]
    # About the middle; the end of the first group of pictures where that is longer.
    targets = [start_pts + int(duration_s / 2 / time_base), *([keys[1] + 1] if len(keys) > 1 else [])]
    is_cut_ts = "mpegts" in formats and all(size % packet for packet in (188, 192, 204))
    return Probe(
        kind="video",
        width=width,
        height=height,
        rotation=rotation,
        sample_aspect=aspect,
        codec=stream.codec_context.name,
        fps=fps,
        time_base=time_base,
        start_pts=start_pts,
        duration_s=round(float(duration_s), 3),
        keyframe_ns=tuple(int((key - start_pts) * time_base * NS) for key in _apart(keys, KEYFRAME_GAP / time_base)),
        enterable=not stamped and _is_enterable(open_source, stream.index, start_pts, targets),
        stamped=stamped,
        recorded_at=_recorded_at(container, stream),
        stream=stream.index,
        warning="ends in the middle of a packet: it may be cut off" if is_cut_ts else None,
    )


def _head(container: InputContainer, stream: VideoStream) -> tuple[int, list[VideoFrame]]:
    """By how much the first keyframe is shown later than decoded, in pts; the first frames that the decoder puts out.

    One thread, whatever is damaged before and between.
    """
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    delays: list[int] = []
    head: list[VideoFrame] = []

    for num_read, packet in enumerate(demux(container, stream)):
        if not isinstance(packet, Fault) and packet.is_keyframe and packet.pts is not None and packet.dts is not None:
            delays.append(packet.pts - packet.dts)
        head += [frame for frame in decode(iter([packet]), stream) if isinstance(frame, VideoFrame)]
        if len(head) >= HEAD_FRAMES or (not head and num_read > HEAD_PACKETS):
            break
    return (delays[0] if delays else 0), head[:HEAD_FRAMES]


def _index(container: InputContainer, stream: VideoStream, duration_s: Fraction, time_base: Fraction) -> list[int]:
    """Times of the keyframes by the container's index (of decoding in MP4); none: it has no index, or one of a part."""
    formats = set(container.format.name.split(","))
    if "matroska" in formats:
        # Its index stands at the end of the file, is read at the first seek, and lists keyframes only.
        with suppress(FFmpegError):
            container.seek(int(duration_s / time_base), stream=stream)
    elif not {"mov", "avi"} & formats:
        return []
    entries = list(stream.index_entries)
    keys = [entry.timestamp for entry in entries if entry.is_keyframe and not entry.is_discard]
    if not keys or (entries[-1].timestamp - entries[0].timestamp) * time_base < duration_s * LEAST_INDEXED:
        return []
    return keys


@dataclass(frozen=True, slots=True)
class _Through:
    """What reading a whole file tells: pts of the keyframes; end of the video, and of all streams, in s from time
    zero."""

    keys: list[int]
    video_end_s: Fraction
    end_s: Fraction
    falls_back: bool


def _read_through(open_source: Opener, stream_index: int, start_pts: int, fps: Fraction) -> _Through:
    keys: list[int] = []
    num_packets, highest, fall, base = 0, start_pts, 0, Fraction(1)
    end_s = Fraction(0)
    with opened(open_source) as container:
        base = fraction(container.streams[stream_index].time_base) or Fraction(1)
        for packet in demux(container, None):
            if isinstance(packet, Fault) or not packet.size:
                continue
            if packet.stream_index == stream_index:
                num_packets += 1
                if packet.pts is not None:
                    highest = max(highest, packet.pts)
                    fall = max(fall, highest - packet.pts)
                    keys += [packet.pts] if packet.is_keyframe else []
            if packet.pts is not None and (packet_base := fraction(packet.time_base)):
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet_base - start_pts * base)
    video_end_s = max(
        (highest - start_pts) * base + 1 / fps, num_packets / fps if highest == start_pts else Fraction(0)
    )
    return _Through(keys, video_end_s, max(end_s, video_end_s), fall * base > FALL_BACK_S)


def _duration(container: InputContainer, stream: VideoStream, time_base: Fraction) -> Fraction:
    """Seconds, as the stream's header says, otherwise the container's; 0: neither does."""
    if stream.duration:
        return stream.duration * time_base
    with suppress(ValueError):  # Matroska, per stream, as HH:MM:SS.nnnnnnnnn
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return Fraction(container.duration or 0, av.time_base)


def _apart(keys: Sequence[int], gap: Fraction) -> list[int]:
    kept: list[int] = []
    for key in keys:
        if not kept or key - kept[-1] >= gap:
            kept.append(key)
    return kept


def _is_enterable(open_source: Opener, stream_index: int, start_pts: int, targets: Sequence[int]) -> bool:
    """Whether decoding can begin at a keyframe at or before one of the `targets`.

    Tried, because packets may say key where frames do not: intra refresh.
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
                            return True
                        break
            target_pts = key_pts - 1
    return False


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(f"too small to show a person: {width} x {height} px, each side needs at least {MIN_SIDE_PX}")


def _why_unreadable(open_source: Opener, error: FFmpegError) -> str:
    """What a person would say about bytes that FFmpeg will not open."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    with opened_file(open_source) as file:
        head = file.read(16)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"):
        return "the file is cut off or was never finished: the index of an MP4 (its moov box) is missing or damaged"
    return "not a video or a picture of a known format"


def _size(open_source: Opener) -> int:
    with opened_file(open_source) as file:
        return file.seek(0, 2)


def _recorded_at(container: InputContainer, stream: VideoStream) -> str | None:
    """When the camera says that it recorded, as ISO in UTC; clocks that were never set do not count."""
    stated = container.metadata.get("creation_time") or stream.metadata.get("creation_time") or ""
    try:
        moment = datetime.fromisoformat(stated)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return moment.isoformat() if moment.year > UNSET_CLOCK_YEAR else None
