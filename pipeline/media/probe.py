"""What must be known about a source before it is decoded: its size, its time zero, and where and whether it can be entered.

Contract: a Probe is a function of the bytes alone, and says what is displayed: rotation, pixel aspect and edit lists applied; time
zero is the first frame that the decoder puts out. Reading it costs the header, a few frames and a try to enter; a file without an
index is read through if it is small or does not say how long it is. A DataError tells a person what is wrong with the source.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Self, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Picture
from pipeline.errors import DataError
from pipeline.media.container import Fault, Opener, decode, demux, is_entry, opened, opened_at, video_stream

__all__ = ["Opener", "Probe", "describe_warnings", "probe", "read_picture"]

NS = 1_000_000_000
MIN_SIDE_PX = 16
"""Smaller pictures are refused: nobody can be seen on them, and the detectors' smallest strides leave nothing of them."""
HEAD_FRAMES = 64
"""Decoded to see whether the time stamps rise; re-ordering reaches at most 16 frames back in H.264 and HEVC."""
HEAD_PACKETS = 2000
"""Read at most so far to find the first picture."""
SMALL_BYTES = 64 << 20
"""A file without an index is read through up to here: for its content id it is read anyway."""
ENTRY_TRIES = 3
FALL_BACK_S = 1
"""Time stamps that jump back by more than this show pieces of several recordings in one file."""
DEFAULT_RATE = Fraction(25)
LEAST_INDEXED = Fraction(9, 10)
"""An index that reaches over less of the duration is one of a part only, as in fragmented files."""
UNSET_CLOCK_YEAR = 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """width, height: px as displayed. rotation: degrees counter-clockwise, 0, 90, 180 or 270. sample_aspect: width of a stored pixel.

    fps: frames a second on average. start_pts: of time zero, in time_base. duration_s: as the header says, it may be wrong; 0: unknown.
    keyframe_ns: from time zero, approximate, may be empty. enterable: may be entered in the middle. stamped: the time stamps do not
    rise, so times are the order of output over `fps`. stream: its index in the container. warning: what a person should know.
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
        with opened(open_source) as container:
            if container.format.name.endswith("_pipe") or container.format.name == "image2":
                return _probe_picture(open_source, container)
            found = _probe_video(open_source, container)
    except FFmpegError as error:
        raise DataError(_why_unreadable(open_source, error)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from None
    return found


def read_picture(open_source: Opener) -> Picture:
    """An image file as it is displayed, EXIF orientation applied; raises DataError."""
    source = open_source()
    with open(source, "rb") if isinstance(source, str) else source as file:
        encoded = file.read()
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DataError(f"the picture cannot be decoded: {error.err}") from None
    if picture is None:
        raise DataError("the picture cannot be decoded: it is damaged, or of a kind that OpenCV does not read")
    return np.asarray(picture, np.uint8)


def describe_warnings(probe: Probe, damaged: Iterable[int], last_ns: int, cell_seconds: float) -> str | None:
    """What a person should know about a whole video: the same sentence whatever the length of its chunks.

    damaged: cells with frames that could not be decoded soundly, of all chunks together (decode.damaged_cells reads them from the
    chunks' warnings). last_ns: time of the last frame.
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
    if probe.kind == "video" and probe.duration_s - end_s > max(1.0, 0.05 * probe.duration_s):
        said.append(f"ends early: {end_s:.1f} of {probe.duration_s:.1f} s")
    return "; ".join(said) or None


def _probe_picture(open_source: Opener, container: InputContainer) -> Probe:
    picture = read_picture(open_source)
    height, width = picture.shape[:2]
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
        warning=_cut_off_jpeg(open_source),
    )


def _probe_video(open_source: Opener, container: InputContainer) -> Probe:
    stream = video_stream(container)
    if stream is None:
        kinds = sorted({stream.type for stream in container.streams})
        raise DataError(f"holds no video, only {' and '.join(kinds) or 'nothing that is known'}")
    time_base = stream.time_base
    head = _head(container, stream)
    if not head or not time_base:
        raise DataError(f"no frame of its {stream.codec_context.name} video can be decoded")
    first, stamps = head[0], [frame.pts for frame in head]
    stamped = None in stamps or any(b <= a for a, b in pairwise(cast(list[int], stamps)))
    start_pts = first.pts or 0

    aspect = stream.sample_aspect_ratio or Fraction(1)
    rotation = round(first.rotation / 90) % 4 * 90
    across, down = max(1, round(first.width * aspect)), first.height
    width, height = (down, across) if rotation % 180 else (across, down)
    _check_size(width, height)

    fps = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    duration_s = _duration(container, stream, time_base)
    keys = _index(container, stream, duration_s, time_base)
    if keys:
        keys = [key - keys[0] + start_pts for key in keys]
    elif duration_s <= 0 or _size(open_source) <= SMALL_BYTES:
        packets = _read_through(open_source, stream.index)
        keys = sorted(pts for pts, is_key in packets if is_key and pts >= start_pts)
        every = np.array([pts for pts, _ in packets] or [start_pts], np.int64)
        duration_s = int(every.max() - start_pts) * time_base + 1 / fps
        stamped = stamped or int((np.maximum.accumulate(every) - every).max()) * time_base > FALL_BACK_S
    # About the middle; where the first group of pictures is longer, its end.
    targets = [start_pts + int(duration_s / 2 / time_base), *([keys[1] + 1] if len(keys) > 1 else [])]
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
        keyframe_ns=tuple(int((key - start_pts) * time_base * NS) for key in keys),
        enterable=not stamped and _is_enterable(open_source, stream.index, start_pts, targets),
        stamped=stamped,
        recorded_at=_recorded_at(container, stream),
        stream=stream.index,
        warning=None,
    )


def _head(container: InputContainer, stream: VideoStream) -> list[VideoFrame]:
    """The first frames that the decoder puts out, one thread, whatever is damaged before and between."""
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    head: list[VideoFrame] = []
    for num_read, frame in enumerate(decode(demux(container, stream), stream)):
        if isinstance(frame, VideoFrame):
            head.append(frame)
        if len(head) == HEAD_FRAMES or (not head and num_read > HEAD_PACKETS):
            break
    return head


def _index(container: InputContainer, stream: VideoStream, duration_s: Fraction, time_base: Fraction) -> list[int]:
    """Keyframes by the container's index, about as pts; none where it has no index, or one of a part only.

    An index holds decoding times; shifted so that the first displayed keyframe stands at the first frame's pts by the caller's start,
    they are off by less than the re-ordering changes from group to group.
    """
    if "matroska" in container.format.name:
        # Its index stands at the end of the file, and is read at the first seek; it lists keyframes only.
        with suppress(FFmpegError):
            container.seek(int(duration_s / time_base), stream=stream)
    elif not {"mov", "avi"} & set(container.format.name.split(",")):
        return []
    entries = list(stream.index_entries)
    keys = [entry.timestamp for entry in entries if entry.is_keyframe and not entry.is_discard]
    if not keys or (entries[-1].timestamp - keys[0]) * time_base < duration_s * LEAST_INDEXED:
        return []
    return keys


def _read_through(open_source: Opener, stream_index: int) -> list[tuple[int, bool]]:
    """(pts, is keyframe) of every packet that has a pts, in the order of the file."""
    with opened(open_source) as container:
        stream = container.streams.video[0].container.streams[stream_index]
        packets = demux(container, cast(VideoStream, stream))
        return [
            (packet.pts, packet.is_keyframe)
            for packet in packets
            if not isinstance(packet, Fault) and packet.size and packet.pts is not None
        ]


def _duration(container: InputContainer, stream: VideoStream, time_base: Fraction) -> Fraction:
    """Seconds, as the stream's header says, otherwise the container's; 0: neither does."""
    if stream.duration:
        return stream.duration * time_base
    stated = stream.metadata.get("DURATION", "")  # Matroska, per stream, as HH:MM:SS.nnnnnnnnn
    with suppress(ValueError):
        hours, minutes, seconds = stated.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return Fraction(container.duration or 0, av.time_base)


def _is_enterable(open_source: Opener, stream_index: int, start_pts: int, target_pts: Sequence[int]) -> bool:
    """Whether decoding can begin at a keyframe at or before one of `target_pts`: tried, because packets may say key and frames not."""
    for target in target_pts:
        for _ in range(ENTRY_TRIES):
            with opened_at(open_source, stream_index, target, start_pts, threads=1) as entry:
                if entry is None:
                    break
                key_pts, packets, stream = entry
                for frame in decode(packets, stream):
                    if isinstance(frame, VideoFrame) and frame.pts is not None and frame.pts >= key_pts:
                        if is_entry(frame, key_pts):
                            return True
                        break
            target = key_pts - 1
    return False


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(
            f"too small to show a person: {width} x {height} px, at least {MIN_SIDE_PX} px are needed on each side"
        )


def _why_unreadable(open_source: Opener, error: FFmpegError) -> str:
    """What a person would say about bytes that FFmpeg will not open."""
    source = open_source()
    with open(source, "rb") if isinstance(source, str) else source as file:
        head = file.read(1 << 16)
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" or head[4:8] in (b"mdat", b"moov", b"wide", b"free"):
        return "the file is cut off or was never finished: the index of its MP4 (moov) is missing or damaged"
    if not isinstance(error, InvalidDataError):
        return f"cannot be opened: {error.strerror}"
    return "not a video or a picture of a known format"


def _size(open_source: Opener) -> int:
    source = open_source()
    with open(source, "rb") if isinstance(source, str) else source as file:
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


def _cut_off_jpeg(open_source: Opener) -> str | None:
    """A warning where a JPEG's last scan has no end: OpenCV fills what is missing with grey."""
    source = open_source()
    with open(source, "rb") if isinstance(source, str) else source as file:
        encoded = file.read()
    is_jpeg = encoded.startswith(b"\xff\xd8")
    return "the picture is cut off" if is_jpeg and encoded.rfind(b"\xff\xd9") < encoded.rfind(b"\xff\xda") else None
