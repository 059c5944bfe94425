"""What must be known about a source before it is decoded: its size, its time zero, where and whether it can be entered.

Contract: a Probe is a function of the bytes alone, and says what is displayed: rotation, pixel aspect and edit lists
applied; time zero is the first frame that the decoder puts out. It costs the header, a few frames and a try to enter; a
file without an index is read through, if it is small or does not say how long it is. A DataError tells a person what is
wrong with the source.
"""

import json
import math
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Self

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.cores.plan import NS
from pipeline.cores.stamps import FALL_BACK_S, FellBack, Stamped, in_line, is_lone_start
from pipeline.errors import DataError
from pipeline.media import iso, matroska
from pipeline.media.aspect import TOLERANCE, PixelAspects
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
    video_streams,
)
from pipeline.media.iso import WHOLE, Insets
from pipeline.media.pictures import decode_picture
from pipeline.media.tone import transfer_of, why_not_shown
from pipeline.media.transport import Layout, joined, look_at

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
MAX_WRONG_SHARE, MAX_WRONG_STAMPS = Fraction(1, 8), 2
"""Of the stamps of the first frames; with more of them wrong none is believed."""
REORDERED_FRAMES = 16
END_BYTES = 32 << 20
"""Read at most so far from the last keyframe of the index to find where a video really ends."""
RATE_BYTES = 8 << 20
"""Read of a large file without an index, to estimate how long it is; it is believed to be at most twice as long."""
HOLE_S, HOLE_RATIO = 60, 20
"""A pause between two frames that is so long, in s and in the median pause, is a hole in the clock."""
MAX_NAMED = 5
"""Places that a warning names."""
DAMAGED = "damaged"
Note = tuple[int, str]
"""A cell, and what a person should know about it: DAMAGED, or another size of its pictures as WIDTHxHEIGHT."""
DEFAULT_RATE = Fraction(25)
MAX_RATE = 1000
"""Frames a second; a higher rate is the tick of a clock."""
LEAST_INDEXED = Fraction(9, 10)
"""An index that reaches over less of the duration is one of a part only, as in fragmented files."""
KEYFRAME_GAP = Fraction(1, 2)
"""Seconds; of keyframes that are closer, as where every frame is one, only the first is remembered."""
STATING_FORMATS = frozenset({"matroska", "mov", "avi", "flv", "asf"})
"""Their headers say how long the video is; FFmpeg guesses it from the bytes for others."""
ASPECT_FORMATS = frozenset({"matroska", "mov", "asf", "mxf"})
"""Their headers state the pixel aspect, and players believe them rather than the frames."""
UNSET_CLOCK_YEAR = 1970
LONG_S, LEAST_BYTES_PER_S = 3600, 500
"""A longer video that cannot be entered and has fewer bytes has holes, and is planned as if it were shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What there is to know about a source.

    width, height: px as displayed.
    stored: width and height in px of the frames that fill the picture; others are fitted into it.
    insets: px of a stored frame that are not displayed: left, top, right, bottom.
    mirrored: left and right are exchanged before it is turned.
    rotation: degrees counter-clockwise, 0, 90, 180 or 270.
    sample_aspect: width of a stored pixel over its height.
    frames_say_aspect: the container does not say it, and it may change from frame to frame.
    transfer: of colours by ITU-T H.273, where a frame has none.
    fps: frames a second on average.
    start_pts: of time zero, in time_base.
    duration_s: an estimate; 0: unknown.
    promised_s: the length that the header promises; it may be wrong.
    keyframe_ns: from time zero, approximate, may be empty.
    enterable: may be entered in the middle.
    stamped: the time stamps cannot be used, so a frame's time is its place in the order of output over `fps`.
    recorded_at: ISO, UTC.
    stream: index in the container.
    packet_bytes, packet_ids: see transport.Layout; the video goes on under other ids if there are several.
    warning: what a person should know.
    """

    kind: Literal["video", "image"]
    width: int
    height: int
    stored: tuple[int, int]
    insets: Insets
    mirrored: bool
    rotation: int
    sample_aspect: Fraction
    frames_say_aspect: bool
    transfer: int
    codec: str
    fps: Fraction
    time_base: Fraction
    start_pts: int
    duration_s: float
    promised_s: float
    keyframe_ns: tuple[int, ...]
    enterable: bool
    stamped: bool
    recorded_at: str | None
    stream: int
    packet_bytes: int
    packet_ids: tuple[int, ...]
    warning: str | None

    def upright(self, picture: Picture) -> Picture:
        """A stored picture, (H, W) or (H, W, 3), as it is displayed."""
        return np.ascontiguousarray(np.rot90(picture[:, ::-1] if self.mirrored else picture, self.rotation // 90))

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
        tuples = {name: tuple(fields[name]) for name in ("stored", "insets", "keyframe_ns", "packet_ids")}
        return cls(**{**fields, **fractions, **tuples})


def probe(open_source: Opener) -> Probe:
    """Look at a source; raises DataError with a reason that a person understands."""
    try:
        with opened_file(open_source) as file:
            if not file.read(1):
                raise DataError("the file is empty")
            if iso.is_still(file):
                return _probe_picture(open_source, "heif")
        with opened(open_source) as container:
            if container.format.name.endswith("_pipe") or container.format.name == "image2":
                stream = video_stream(container)
                return _probe_picture(open_source, stream.codec_context.name if stream else container.format.name)
            layout = _layout(open_source, container)
            if len(layout.ids) < 2:
                return _probe_video(open_source, container, layout)
        whole = joined(open_source, layout.packet_bytes, layout.ids)
        with opened(whole) as container:
            return _probe_video(whole, container, layout)
    except FFmpegError as error:
        raise DataError(_why_unreadable(open_source, error)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from None


def read_picture(open_source: Opener) -> Picture:
    """An image file as it is displayed, EXIF orientation applied; raises DataError."""
    with opened_file(open_source) as file:
        encoded = file.read()
    try:
        return decode_picture(encoded)
    except ValueError as error:
        raise DataError(f"the picture cannot be decoded: {error}") from None


def describe_warnings(
    probe: Probe, notes: Iterable[Note], times_ns: NDArray[np.int64], cell_seconds: float
) -> str | None:
    """What a person should know about a whole video: the same sentence whatever the length of its chunks.

    notes: of all chunks together (`decode.notes` reads them from the chunks' warnings). times_ns: (F,) of all frames.
    """
    said = [probe.warning] if probe.warning else []
    notes = sorted(set(notes))
    runs: list[list[int]] = []
    for cell in [cell for cell, what in notes if what == DAMAGED]:
        if runs and cell == runs[-1][1]:
            runs[-1][1] = cell + 1
        else:
            runs.append([cell, cell + 1])
    if runs:
        said.append("damaged at " + _some([f"{a * cell_seconds:g} to {b * cell_seconds:g} s" for a, b in runs]))
    sizes: dict[str, int] = {}
    for cell, what in notes:
        if what != DAMAGED:
            sizes.setdefault(what, cell)
    if sizes:
        changes = _some([f"{size} px from {cell * cell_seconds:g} s on" for size, cell in sizes.items()])
        said.append(f"the picture changes its size: {changes}; it is shown inside {probe.width}x{probe.height} px")
    said += _holes(times_ns)
    end_s = int(times_ns[-1]) / NS + float(1 / probe.fps)
    if probe.kind == "video" and _is_short(end_s, probe.promised_s):
        said.append(f"ends early: {end_s:.1f} of {probe.promised_s:.1f} s")
    return "; ".join(said) or None


def _holes(times_ns: NDArray[np.int64]) -> list[str]:
    pauses = np.diff(times_ns)
    if not len(pauses):
        return []
    holes = np.flatnonzero(pauses > max(HOLE_S * NS, HOLE_RATIO * float(np.median(pauses))))
    places = [f"{times_ns[at] / NS:.1f} to {times_ns[at + 1] / NS:.1f} s" for at in holes[:MAX_NAMED].tolist()]
    return ["no picture at " + _some(places, len(holes)) + ": the clock jumps there"] if places else []


def _some(places: Sequence[str], count: int | None = None) -> str:
    """The first few of `count` places."""
    more = (len(places) if count is None else count) - MAX_NAMED
    return ", ".join(places[:MAX_NAMED]) + (f" and {more} more places" if more > 0 else "")


def _is_short(end_s: float, duration_s: float) -> bool:
    """Whether so much is missing that it is not a matter of rounding, or of sound that goes on a little longer."""
    return duration_s - end_s > max(1.0, 0.05 * duration_s)


def _probe_picture(open_source: Opener, codec: str) -> Probe:
    height, width = read_picture(open_source).shape[:2]
    _check_size(width, height)
    return Probe(
        kind="image",
        width=width,
        height=height,
        stored=(width, height),
        insets=WHOLE,
        mirrored=False,
        rotation=0,
        sample_aspect=Fraction(1),
        frames_say_aspect=False,
        transfer=0,
        codec=codec,
        fps=DEFAULT_RATE,
        time_base=Fraction(1, NS),
        start_pts=0,
        duration_s=0.0,
        promised_s=0.0,
        keyframe_ns=(),
        enterable=False,
        stamped=True,
        recorded_at=None,
        stream=0,
        packet_bytes=0,
        packet_ids=(),
        warning=None,
    )


def _probe_video(open_source: Opener, container: InputContainer, layout: Layout) -> Probe:
    stream = video_stream(container)
    if stream is None:
        kinds = sorted({stream.type for stream in container.streams})
        raise DataError(f"holds no video, only {' and '.join(kinds) or 'nothing that is known'}")
    formats = set(container.format.name.split(","))
    time_base, delay, head = fraction(stream.time_base), *_head(container, stream)
    if not head or not time_base:
        raise DataError(f"no frame of its {stream.codec_context.name} video can be decoded")
    is_clockless = bool(container.format.flags & Flags.no_timestamps.value)
    start_pts, stamped = _start(head, time_base)
    stamped = stamped or is_clockless
    # A stream without a container says its rate itself, or not at all: FFmpeg takes 25 a second then.
    rates = (
        [stream.codec_context.framerate]
        if is_clockless
        else [stream.average_rate, stream.guessed_rate, stream.base_rate]
    )
    stated_rate = next((rate for rate in map(fraction, rates) if rate and rate <= MAX_RATE), None)
    fps = stated_rate or DEFAULT_RATE

    size = _size(open_source)
    extent = _extent(open_source, container, stream, size=size, delay=delay, start_pts=start_pts, fps=fps)
    stamped, duration_s = stamped or extent.falls_back, extent.duration_s
    # A keyframe with a wrong stamp misleads who enters there.
    ordered = head[0].pts == start_pts and extent.is_ordered
    keys = [key for key in sorted(extent.keys) if key >= start_pts]
    # About the middle; the end of the first group of pictures where that is longer.
    targets = [start_pts + int(duration_s / 2 / time_base), *([keys[1] + 1] if len(keys) > 1 else [])]
    entered = None if stamped or not ordered else _enter(open_source, stream.index, start_pts, targets)

    if entered is None:
        duration_s = min(duration_s, max(LONG_S, Fraction(size, LEAST_BYTES_PER_S)))
    # A sender may begin with a small picture; the larger one is what the video is.
    first = head[0]
    if entered is not None and entered.width * entered.height > first.width * first.height:
        first = entered
    insets = _insets(open_source, container, stream, first)
    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    frames_say_aspect = not formats & ASPECT_FORMATS
    if frames_say_aspect and abs((said := PixelAspects()(first)) / aspect - 1) > TOLERANCE:
        aspect = said  # the decoder's last word, and not that of the first frame
    mirrored, rotation = _orientation(head[0])
    across = max(1, round((first.width - insets[0] - insets[2]) * aspect))
    down = first.height - insets[1] - insets[3]
    width, height = (down, across) if rotation % 180 else (across, down)
    _check_size(width, height)
    transfer = int(stream.codec_context.color_trc or 0)
    is_cut_ts = "mpegts" in formats and all(size % packet for packet in (188, 192, 204))
    is_guessed = stamped and "avi" not in formats  # frames of AVI count, and nothing else
    warnings = [
        "ends in the middle of a packet: it may be cut off" if is_cut_ts else None,
        _further_streams(container, stream, layout),
        _guessed(fps, is_stated=stated_rate is not None, is_clockless=is_clockless) if is_guessed else None,
        _unshown(first, transfer),
    ]
    return Probe(
        kind="video",
        width=width,
        height=height,
        stored=(first.width, first.height),
        insets=insets,
        mirrored=mirrored,
        rotation=rotation,
        sample_aspect=aspect,
        frames_say_aspect=frames_say_aspect,
        transfer=transfer,
        codec=stream.codec_context.name,
        fps=fps,
        time_base=time_base,
        start_pts=start_pts,
        duration_s=round(float(duration_s), 3),
        promised_s=round(float(extent.promised_s), 3),
        keyframe_ns=tuple(int((key - start_pts) * time_base * NS) for key in _apart(keys, KEYFRAME_GAP / time_base)),
        enterable=entered is not None,
        stamped=stamped,
        recorded_at=_recorded_at(container, stream),
        stream=stream.index,
        packet_bytes=layout.packet_bytes,
        packet_ids=layout.ids,
        warning="; ".join(filter(None, warnings)) or None,
    )


def _layout(open_source: Opener, container: InputContainer) -> Layout:
    stream = video_stream(container)
    if stream is not None and "mpegts" in container.format.name:
        with opened_file(open_source) as file:
            if (layout := look_at(file, stream.id)) is not None:
                return layout
    return Layout(0, (), ())


def _start(head: Sequence[VideoFrame], time_base: Fraction) -> tuple[int, bool]:
    """The stamp of time zero, and whether too many of the stamps of the first frames are wrong."""
    stamped = [Stamped(frame.pts, frame.pts * time_base, frame.key_frame) for frame in head if frame.pts is not None]
    try:
        good = list(in_line(stamped))
    except FellBack:
        return head[0].pts or 0, True
    if not good or len(head) - len(good) > max(MAX_WRONG_STAMPS, MAX_WRONG_SHARE * len(head)):
        return head[0].pts or 0, True
    return good[1 if is_lone_start([one.time_s for one in good]) else 0].item, False


def _orientation(frame: VideoFrame) -> tuple[bool, int]:
    """Whether to exchange left and right of a stored picture, and by how many degrees to turn it then, to see it
    upright; in quarter turns."""
    matrix = _side_data(frame, Type.DISPLAYMATRIX)
    if matrix is None or len(matrix) < 20:
        return False, 0
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    a, b = (-a, -b) if mirrored else (a, b)
    return mirrored, round(math.degrees(math.atan2(c - b, a + d)) / 90) % 4 * 90


def _side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    try:
        return bytes(frame.side_data[kind])  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    except KeyError:
        return None


def _insets(open_source: Opener, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> Insets:
    """What the container crops from the stored picture; FFmpeg tells it to nobody but its own command."""
    insets = WHOLE
    with opened_file(open_source) as file:
        if "mov" in container.format.name:
            insets = iso.track_insets(file, stream.id, frame.width, frame.height)
        elif "matroska" in container.format.name:
            insets = matroska.track_insets(file, [one.index for one in container.streams.video].index(stream.index))
    left, top, right, bottom = insets
    return insets if left + right < frame.width and top + bottom < frame.height else WHOLE


def _further_streams(container: InputContainer, stream: VideoStream, layout: Layout) -> str | None:
    further = [one for one in video_streams(container) if one.index != stream.index and one.id not in layout.ids[1:]]
    names = [
        f"stream {one.index} ({one.codec_context.name}, {one.width}x{one.height})"
        for one in further
        if one.width
        and one.frames != 1  # the still picture that stands for an animation
        and not (layout.packet_bytes and one.id in layout.aside)
    ]
    names += [f"stream with packet id {one}" for one in layout.aside]
    if not names:
        return None
    return f"shows more than one video: {_some(names)} {'is' if len(names) == 1 else 'are'} not processed"


def _guessed(fps: Fraction, *, is_stated: bool, is_clockless: bool) -> str | None:
    if is_clockless and is_stated:
        return None  # the stream itself says its rate, and has no other clock
    why = "the stream says no rate" if is_clockless else "its time stamps cannot be used"
    return f"times are guessed: {why}, {float(fps):g} frames a second are assumed"


def _unshown(frame: VideoFrame, stated_transfer: int) -> str | None:
    is_dolby_vision = any(_side_data(frame, kind) for kind in (Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER))
    return why_not_shown(transfer_of(frame, stated_transfer), int(frame.colorspace), is_dolby_vision=is_dolby_vision)


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


@dataclass(frozen=True, slots=True)
class _Extent:
    """How long a video is, in s, and its keyframes. is_ordered: their stamps rise as they stand in the file.
    falls_back: so do not those of all frames."""

    duration_s: Fraction
    promised_s: Fraction
    keys: list[int]
    is_ordered: bool
    falls_back: bool


def _extent(
    open_source: Opener,
    container: InputContainer,
    stream: VideoStream,
    *,
    size: int,
    delay: int,
    start_pts: int,
    fps: Fraction,
) -> _Extent:
    """By the container's index if there is one, by reading a small file through, or by the header if it can be so."""
    time_base = fraction(stream.time_base) or Fraction(1)
    formats = set(container.format.name.split(","))
    promised_s = _duration(container, stream, time_base)
    index = _index(container, stream, promised_s, time_base, size)
    keys = [key + delay for key in index.keys] if "mov" in formats else index.keys
    duration_s = promised_s
    if keys and index.is_partial:
        end_s = _end_behind(open_source, stream.index, index.keys[-1], delay, start_pts)
        keys, duration_s = ([], promised_s) if end_s is None else (keys, end_s)
    falls_back = False
    if not keys and (promised_s <= 0 or size <= SMALL_BYTES):
        through = _read_through(open_source, stream.index, start_pts, fps)
        falls_back, keys, duration_s = through.falls_back, through.keys, through.video_end_s
        # A header that promises more than there is of sound and pictures shows that the file is cut off.
        is_cut = bool(formats & STATING_FORMATS) and _is_short(float(through.end_s), float(promised_s))
        promised_s = promised_s if is_cut else duration_s
    elif not keys:
        duration_s = min(duration_s, _likely_duration(open_source, stream.index, start_pts, size, promised_s))
    ordered = index.is_ordered and all(a < b for a, b in pairwise(keys))
    return _Extent(duration_s, promised_s, keys, ordered, falls_back)


@dataclass(frozen=True, slots=True)
class _Index:
    """keys: times of the keyframes by the container's index, of decoding in MP4; empty: it has none.

    is_ordered: they rise as they stand in the file. is_partial: they reach over a part of the promised length only.
    """

    keys: list[int]
    is_ordered: bool
    is_partial: bool


def _index(
    container: InputContainer, stream: VideoStream, promised_s: Fraction, time_base: Fraction, size: int
) -> _Index:
    formats = set(container.format.name.split(","))
    if "matroska" in formats:
        # Its index stands at the end of the file, is read at the first seek, and lists keyframes only.
        with suppress(FFmpegError):
            container.seek(int(promised_s / time_base), stream=stream)
    elif not {"mov", "avi"} & formats:
        return _Index([], is_ordered=True, is_partial=True)
    # What would lie behind the end of a file that was cut off is not there.
    entries = [entry for entry in stream.index_entries if entry.pos < size]
    keys = [entry for entry in entries if entry.is_keyframe and not entry.is_discard]
    if not keys:
        return _Index([], is_ordered=True, is_partial=True)
    ordered = all(a.timestamp < b.timestamp and a.pos <= b.pos for a, b in pairwise(keys))
    reach_s = (entries[-1].timestamp - entries[0].timestamp) * time_base
    return _Index([key.timestamp for key in keys], ordered, reach_s < promised_s * LEAST_INDEXED)


def _end_behind(open_source: Opener, stream_index: int, last_key: int, delay: int, start_pts: int) -> Fraction | None:
    """Where a video ends, in s from time zero, if one group of pictures follows its last known keyframe; None: more
    does. delay: see `_head`."""
    with opened(open_source) as container:
        stream = container.streams[stream_index]
        time_base = fraction(stream.time_base) or Fraction(1)
        with suppress(FFmpegError):
            container.seek(last_key, stream=stream)
        end, num_bytes = last_key, 0
        for packet in demux(container, None):
            if isinstance(packet, Fault):
                return None
            num_bytes += packet.size
            if num_bytes > END_BYTES:
                return None
            if packet.stream_index == stream_index and packet.pts is not None:
                if packet.is_keyframe and packet.pts > last_key + delay:
                    return None
                end = max(end, packet.pts + (packet.duration or 0))
    return (end - start_pts) * time_base


def _likely_duration(
    open_source: Opener, stream_index: int, start_pts: int, size: int, promised_s: Fraction
) -> Fraction:
    """How long a large file is, in s: as its header says, unless its first part shows that this cannot be."""
    with opened(open_source) as container:
        time_base = fraction(container.streams[stream_index].time_base) or Fraction(1)
        end, num_bytes = start_pts, 0
        for packet in demux(container, None):
            if isinstance(packet, Fault) or num_bytes > RATE_BYTES:
                break
            num_bytes += packet.size
            if packet.stream_index == stream_index and packet.pts is not None:
                end = max(end, packet.pts)
    likely_s = (end - start_pts) * time_base * size / max(1, num_bytes)
    return likely_s if 0 < 2 * likely_s < promised_s else promised_s


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
    stamps: list[int] = []
    num_packets, base = 0, Fraction(1)
    end_s = Fraction(0)
    with opened(open_source) as container:
        base = fraction(container.streams[stream_index].time_base) or Fraction(1)
        for packet in demux(container, None):
            if isinstance(packet, Fault) or not packet.size:
                continue
            if packet.stream_index == stream_index:
                num_packets += 1
                if packet.pts is not None:
                    stamps.append(packet.pts)
                    keys += [packet.pts] if packet.is_keyframe else []
            if packet.pts is not None and (packet_base := fraction(packet.time_base)):
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet_base - start_pts * base)
    believed = _without_lone_outliers(np.array(stamps, np.int64))
    highest = max(believed.tolist(), default=start_pts)
    fall = int((np.maximum.accumulate(believed) - believed).max(initial=0))
    video_end_s = max(
        (highest - start_pts) * base + 1 / fps, num_packets / fps if highest == start_pts else Fraction(0)
    )
    falls_back = fall * base > max(Fraction(FALL_BACK_S), REORDERED_FRAMES / fps)
    return _Through(keys, video_end_s, max(min(end_s, 2 * video_end_s), video_end_s), falls_back)


def _without_lone_outliers(stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stamps in the order of storage, one or two wrong ones in a row replaced by the median of five."""
    padded = np.concatenate([stamps[:1].repeat(2), stamps, stamps[-1:].repeat(2)])
    return (
        np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1).astype(np.int64)
        if len(stamps)
        else stamps
    )


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


def _enter(open_source: Opener, stream_index: int, start_pts: int, targets: Sequence[int]) -> VideoFrame | None:
    """A frame with which decoding can begin, at or before one of the `targets`; None: there is none.

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
                            return frame
                        break
            target_pts = key_pts - 1
    return None


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
