"""Find out what decoding needs to know about a source: its size, its time zero, and whether it can be entered
    midway.

Contract: a Probe depends on the bytes alone and describes what is displayed: rotation, pixel aspect and edit lists
    are applied. Time zero is the first frame that the decoder puts out. A probe reads the header and a few frames,
    and tries once to enter the file. It reads through a file without an index if the file is small or does not state
    its duration. A DataError tells the user what is wrong with the source.
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
from pipeline.errors import DataError, blame_machine
from pipeline.media import iso, matroska
from pipeline.media.aspect import TOLERANCE, PixelAspects
from pipeline.media.container import (
    BadPacket,
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
from pipeline.media.transport import Layout, joined, read_layout

__all__ = ["Opener", "Probe", "describe_warnings", "probe", "read_picture"]

MIN_SIDE_PX = 16
"""Smaller pictures are refused: nobody is visible in them, and a detector's strides leave nothing of them."""
HEAD_FRAMES = 64
"""Number of frames decoded to check that time stamps rise. H.264 and HEVC reorder at most 16 frames."""
HEAD_PACKETS = 2000
"""Most packets to read in search of the first frame that can be decoded."""
SMALL_BYTES = 64 << 20
"""A file without an index is read through if it is no larger. It is read for its content ID anyway."""
ENTRY_TRIES = 3
MAX_WRONG_SHARE, MAX_WRONG_STAMPS = Fraction(1, 8), 2
"""Most wrong time stamps, as a share and as a number of the first frames. If more are wrong, no stamp is believed."""
REORDERED_FRAMES = 16
END_BYTES = 32 << 20
"""Most bytes to read from the last keyframe of the index on, to find where a video really ends."""
RATE_BYTES = 8 << 20
"""Bytes read from a large file without an index to estimate its duration. A stated duration of up to twice the
estimate is believed."""
HOLE_S, HOLE_RATIO = 60, 20
"""A pause between two frames is a gap in the clock if it is longer than both: seconds, and multiples of the median
    pause."""
MAX_NAMED = 5
"""Most places that a warning lists."""
DAMAGED = "damaged"
Note = tuple[int, str]
"""A cell and a note about it for the user: DAMAGED, or the other size of its pictures as WIDTHxHEIGHT."""
DEFAULT_RATE = Fraction(25)
MAX_RATE = 1000
"""Frames a second. A higher stated rate is the tick of a clock."""
LEAST_INDEXED = Fraction(9, 10)
"""An index that covers a smaller share of the duration covers only a part of the file, as in fragmented files."""
KEYFRAME_GAP = Fraction(1, 2)
"""Seconds. Keyframes that follow more closely are dropped, as in videos where every frame is one."""
STATING_FORMATS = frozenset({"matroska", "mov", "avi", "flv", "asf"})
"""Formats whose headers state the duration. FFmpeg guesses it from the bytes for others."""
ASPECT_FORMATS = frozenset({"matroska", "mov", "asf", "mxf"})
"""Formats whose headers state the pixel aspect. Players believe these headers rather than the frames."""
UNSET_CLOCK_YEAR = 1970
LONG_S, LEAST_BYTES_PER_S = 3600, 500
"""A longer video with fewer bytes a second has gaps. If it cannot be entered midway, it is planned as if it were
shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The facts about a source that planning and decoding need.

    kind: "video" or "image".
    width, height: px as displayed.
    stored: (width, height) in px of the frames that fill the picture. Others are fitted into it.
    insets: px of a stored frame that are not displayed: left, top, right, bottom.
    mirrored: left and right are exchanged before the picture is turned.
    rotation: degrees counter-clockwise, one of 0, 90, 180, 270.
    sample_aspect: width of a stored pixel over its height.
    frames_say_aspect: the frames state the pixel aspect, not the container. It may change from frame to frame.
    transfer: transfer function by ITU-T H.273 of frames that state none.
    codec: FFmpeg's name of it.
    fps: average frames a second.
    time_base: seconds of one unit of pts.
    start_pts: pts of time zero, in time_base.
    duration_s: estimated duration; 0: unknown.
    promised_s: duration that the header states. It may be wrong.
    keyframe_ns: approximate times of keyframes from time zero. May be empty.
    enterable: decoding may begin in the middle.
    stamped: the time stamps cannot be used. A frame's time is its position in the order of output over `fps`.
    recorded_at: time of recording in ISO 8601, UTC. None if it is not known.
    stream: index in the container.
    packet_bytes, packet_ids: as in transport.Layout. If there are several IDs, the video continues from one to the
        next.
    warning: a remark for the user, or None.
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
        """Return a stored picture, (H, W) or (H, W, 3), in its displayed orientation."""
        return np.ascontiguousarray(np.rot90(picture[:, ::-1] if self.mirrored else picture, self.rotation // 90))

    def time_of(self, pts: int) -> Fraction:
        """Return exact seconds from the first displayed frame."""
        return (pts - self.start_pts) * self.time_base

    def without_keyframes(self) -> Self:
        """Return a copy without the keyframes. Only planning needs them, and an hour of video has thousands."""
        return replace(self, keyframe_ns=())

    def to_json(self) -> str:
        """Return one line of JSON that from_json turns into an equal value."""
        return json.dumps({k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the Probe that to_json wrote."""
        fields = json.loads(text)
        fractions = {name: Fraction(fields[name]) for name in ("sample_aspect", "fps", "time_base")}
        tuples = {name: tuple(fields[name]) for name in ("stored", "insets", "keyframe_ns", "packet_ids")}
        return cls(**{**fields, **fractions, **tuples})


def probe(open_source: Opener) -> Probe:
    """Probe a source. Raises a DataError with a reason for the user."""
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
        blame_machine(error)
        raise DataError(f"cannot be read: {error.strerror or error}") from None


def read_picture(open_source: Opener) -> Picture:
    """Return the picture in an image file as it is displayed, with its EXIF orientation applied. Raises DataError."""
    with opened_file(open_source) as file:
        encoded = file.read()
    try:
        return decode_picture(encoded)
    except ValueError as error:
        raise DataError(f"the picture cannot be decoded: {error}") from None


def describe_warnings(
    probe: Probe, notes: Iterable[Note], times_ns: NDArray[np.int64], cell_seconds: float
) -> str | None:
    """Return the warning about a whole video, the same sentence whatever the length of its chunks, or None.

    notes: of all chunks together. `decode.notes` reads them from the chunks' warnings.
    times_ns: (F,) of all frames.
    """
    remarks = [probe.warning] if probe.warning else []
    notes = sorted(set(notes))
    runs: list[list[int]] = []
    for cell in [cell for cell, what in notes if what == DAMAGED]:
        if runs and cell == runs[-1][1]:
            runs[-1][1] = cell + 1
        else:
            runs.append([cell, cell + 1])
    if runs:
        remarks.append("damaged at " + _listed([f"{a * cell_seconds:g} to {b * cell_seconds:g} s" for a, b in runs]))
    sizes: dict[str, int] = {}
    for cell, what in notes:
        if what != DAMAGED:
            sizes.setdefault(what, cell)
    if sizes:
        changes = _listed([f"{size} px from {cell * cell_seconds:g} s on" for size, cell in sizes.items()])
        remarks.append(f"the picture changes its size: {changes}; it is shown inside {probe.width}x{probe.height} px")
    remarks += _holes(times_ns)
    end_s = int(times_ns[-1]) / NS + float(1 / probe.fps)
    if probe.kind == "video" and _is_short(end_s, probe.promised_s):
        remarks.append(f"ends early: {end_s:.1f} of {probe.promised_s:.1f} s")
    return "; ".join(remarks) or None


def _holes(times_ns: NDArray[np.int64]) -> list[str]:
    pauses = np.diff(times_ns)
    if not len(pauses):
        return []
    holes = np.flatnonzero(pauses > max(HOLE_S * NS, HOLE_RATIO * float(np.median(pauses))))
    places = [f"{times_ns[at] / NS:.1f} to {times_ns[at + 1] / NS:.1f} s" for at in holes[:MAX_NAMED].tolist()]
    return ["no picture at " + _listed(places, len(holes)) + ": the clock jumps there"] if places else []


def _listed(places: Sequence[str], count: int | None = None) -> str:
    """Join the first MAX_NAMED places, and say how many of `count` are left out."""
    more = (len(places) if count is None else count) - MAX_NAMED
    return ", ".join(places[:MAX_NAMED]) + (f" and {more} more places" if more > 0 else "")


def _is_short(end_s: float, duration_s: float) -> bool:
    """Return whether more is missing than rounding, or sound that outlasts the pictures, can explain."""
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
    # A bare stream states its rate itself or not at all. FFmpeg then assumes 25 a second.
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
    # A keyframe with a wrong time stamp would lead decoding to the wrong place.
    ordered = head[0].pts == start_pts and extent.is_ordered
    keys = [key for key in sorted(extent.keys) if key >= start_pts]
    # Try the middle, or the end of the first group of pictures if that is later.
    targets = [start_pts + int(duration_s / 2 / time_base), *([keys[1] + 1] if len(keys) > 1 else [])]
    entered = None if stamped or not ordered else _enter(open_source, stream.index, start_pts, targets)

    if entered is None:
        duration_s = min(duration_s, max(LONG_S, Fraction(size, LEAST_BYTES_PER_S)))
    # A sender may begin with a smaller picture. The larger one is the video's size.
    first = head[0]
    if entered is not None and entered.width * entered.height > first.width * first.height:
        first = entered
    insets = _insets(open_source, container, stream, first)
    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    frames_say_aspect = not formats & ASPECT_FORMATS
    if frames_say_aspect and abs((frame_aspect := PixelAspects()(first)) / aspect - 1) > TOLERANCE:
        aspect = frame_aspect  # the decoder's latest value may differ from the first frame's
    mirrored, rotation = _orientation(head[0])
    across = max(1, round((first.width - insets[0] - insets[2]) * aspect))
    down = first.height - insets[1] - insets[3]
    width, height = (down, across) if rotation % 180 else (across, down)
    _check_size(width, height)
    transfer = int(stream.codec_context.color_trc or 0)
    is_cut_ts = "mpegts" in formats and all(size % packet for packet in (188, 192, 204))
    is_guessed = stamped and "avi" not in formats  # in AVI, times are counts of frames by definition
    warnings = [
        "ends in the middle of a packet: it may be cut off" if is_cut_ts else None,
        _further_videos_warning(container, stream, layout),
        _guessed_times_warning(fps, is_stated=stated_rate is not None, is_clockless=is_clockless)
        if is_guessed
        else None,
        _colour_warning(first, transfer),
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
        keyframe_ns=tuple(int((key - start_pts) * time_base * NS) for key in _spaced(keys, KEYFRAME_GAP / time_base)),
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
            if (layout := read_layout(file, stream.id)) is not None:
                return layout
    return Layout(0, (), ())


def _start(head: Sequence[VideoFrame], time_base: Fraction) -> tuple[int, bool]:
    """Return the time stamp of time zero, and whether too many of the first frames' stamps are wrong."""
    stamped = [Stamped(frame.pts, frame.pts * time_base, frame.key_frame) for frame in head if frame.pts is not None]
    try:
        good = list(in_line(stamped))
    except FellBack:
        return head[0].pts or 0, True
    if not good or len(head) - len(good) > max(MAX_WRONG_STAMPS, MAX_WRONG_SHARE * len(head)):
        return head[0].pts or 0, True
    return good[1 if is_lone_start([stamp.time_s for stamp in good]) else 0].item, False


def _orientation(frame: VideoFrame) -> tuple[bool, int]:
    """Return how to make a stored picture upright: whether to mirror it, then by how many degrees to turn it.

    The degrees are one of 0, 90, 180, 270, counter-clockwise.
    """
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
    """Return what the container crops from the stored picture. FFmpeg reports it only to its own command."""
    insets = WHOLE
    with opened_file(open_source) as file:
        if "mov" in container.format.name:
            insets = iso.track_insets(file, stream.id, frame.width, frame.height)
        elif "matroska" in container.format.name:
            insets = matroska.track_insets(file, [video.index for video in container.streams.video].index(stream.index))
    left, top, right, bottom = insets
    return insets if left + right < frame.width and top + bottom < frame.height else WHOLE


def _further_videos_warning(container: InputContainer, stream: VideoStream, layout: Layout) -> str | None:
    further = [
        video for video in video_streams(container) if video.index != stream.index and video.id not in layout.ids[1:]
    ]
    names = [
        f"stream {video.index} ({video.codec_context.name}, {video.width}x{video.height})"
        for video in further
        if video.width
        and video.frames != 1  # a still picture that represents an animation
        and not (layout.packet_bytes and video.id in layout.aside)
    ]
    names += [f"stream with packet id {packet_id}" for packet_id in layout.aside]
    if not names:
        return None
    return f"shows more than one video: {_listed(names)} {'is' if len(names) == 1 else 'are'} not processed"


def _guessed_times_warning(fps: Fraction, *, is_stated: bool, is_clockless: bool) -> str | None:
    if is_clockless and is_stated:
        return None  # the stream states its rate and has no other clock
    why = "the stream says no rate" if is_clockless else "its time stamps cannot be used"
    return f"times are guessed: {why}, {float(fps):g} frames a second are assumed"


def _colour_warning(frame: VideoFrame, stated_transfer: int) -> str | None:
    is_dolby_vision = any(_side_data(frame, kind) for kind in (Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER))
    return why_not_shown(transfer_of(frame, stated_transfer), int(frame.colorspace), is_dolby_vision=is_dolby_vision)


def _head(container: InputContainer, stream: VideoStream) -> tuple[int, list[VideoFrame]]:
    """Return the delay from decoding to display of the first keyframe, in pts, and the first frames in order of
    output.

    One thread decodes. Damage before and between the frames is skipped.
    """
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    delays: list[int] = []
    head: list[VideoFrame] = []

    for num_read, packet in enumerate(demux(container, stream)):
        if (
            not isinstance(packet, BadPacket)
            and packet.is_keyframe
            and packet.pts is not None
            and packet.dts is not None
        ):
            delays.append(packet.pts - packet.dts)
        head += [frame for frame in decode(iter([packet]), stream) if isinstance(frame, VideoFrame)]
        if len(head) >= HEAD_FRAMES or (not head and num_read > HEAD_PACKETS):
            break
    return (delays[0] if delays else 0), head[:HEAD_FRAMES]


@dataclass(frozen=True, slots=True)
class _Extent:
    """The length of a video and its keyframes.

    duration_s: best estimate, in seconds.
    promised_s: as the header states, in seconds.
    keys: pts of the keyframes.
    is_ordered: the pts of the keyframes rise in the order of the file.
    falls_back: the time stamps jump back too far for a reordering of frames.
    """

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
    """Measure a video by its container's index, by reading a small file through, or by a plausible header, in this
    order."""
    time_base = fraction(stream.time_base) or Fraction(1)
    formats = set(container.format.name.split(","))
    promised_s = _duration(container, stream, time_base)
    if "matroska" in formats:  # its header states the end on the file's own clock, which may begin later than 0
        promised_s = max(promised_s - max(start_pts, 0) * time_base, Fraction(0))
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
        # If the header states more than the sound and the pictures fill, the file is cut off.
        is_cut = bool(formats & STATING_FORMATS) and _is_short(float(through.end_s), float(promised_s))
        promised_s = promised_s if is_cut else duration_s
    elif not keys:
        duration_s = min(duration_s, _likely_duration(open_source, stream.index, start_pts, size, promised_s))
    ordered = index.is_ordered and all(a < b for a, b in pairwise(keys))
    return _Extent(duration_s, promised_s, keys, ordered, falls_back)


@dataclass(frozen=True, slots=True)
class _Index:
    """The keyframes in a container's index.

    keys: pts of the keyframes; in MP4 times of decoding. Empty if there is no index.
    is_ordered: they rise in the order of the file.
    is_partial: they cover only a part of the stated duration.
    """

    keys: list[int]
    is_ordered: bool
    is_partial: bool


def _index(
    container: InputContainer, stream: VideoStream, promised_s: Fraction, time_base: Fraction, size: int
) -> _Index:
    formats = set(container.format.name.split(","))
    if "matroska" in formats:
        # Matroska's index stands at the end of the file and lists keyframes only. FFmpeg reads it at the first seek.
        with suppress(FFmpegError):
            container.seek(int(promised_s / time_base), stream=stream)
    elif not {"mov", "avi"} & formats:
        return _Index([], is_ordered=True, is_partial=True)
    # Entries that lie behind the end of a cut-off file do not exist.
    entries = [entry for entry in stream.index_entries if entry.pos < size]
    keys = [entry for entry in entries if entry.is_keyframe and not entry.is_discard]
    if not keys:
        return _Index([], is_ordered=True, is_partial=True)
    ordered = all(a.timestamp < b.timestamp and a.pos <= b.pos for a, b in pairwise(keys))
    reach_s = (entries[-1].timestamp - entries[0].timestamp) * time_base
    return _Index([key.timestamp for key in keys], ordered, reach_s < promised_s * LEAST_INDEXED)


def _end_behind(open_source: Opener, stream_index: int, last_key: int, delay: int, start_pts: int) -> Fraction | None:
    """Return the end of a video in seconds from time zero if a single group of pictures follows `last_key`, else
    None.

    delay: from decoding to display, as in `_head`.
    """
    with opened(open_source) as container:
        stream = container.streams[stream_index]
        time_base = fraction(stream.time_base) or Fraction(1)
        with suppress(FFmpegError):
            container.seek(last_key, stream=stream)
        end, num_bytes = last_key, 0
        for packet in demux(container, None):
            if isinstance(packet, BadPacket):
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
    """Return the duration of a large file in seconds: the header's, unless the first part of the file contradicts
    it."""
    with opened(open_source) as container:
        time_base = fraction(container.streams[stream_index].time_base) or Fraction(1)
        end, num_bytes = start_pts, 0
        for packet in demux(container, None):
            if isinstance(packet, BadPacket) or num_bytes > RATE_BYTES:
                break
            num_bytes += packet.size
            if packet.stream_index == stream_index and packet.pts is not None:
                end = max(end, packet.pts)
    likely_s = (end - start_pts) * time_base * size / max(1, num_bytes)
    return likely_s if 0 < 2 * likely_s < promised_s else promised_s


@dataclass(frozen=True, slots=True)
class _Through:
    """The result of reading a whole file.

    keys: pts of the keyframes.
    video_end_s: end of the video in seconds from time zero.
    end_s: end of the last stream in seconds from time zero.
    falls_back: as in _Extent.
    """

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
            if isinstance(packet, BadPacket) or not packet.size:
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
    """Replace one or two wrong time stamps in a row, in the order of the file, by the median of five."""
    padded = np.concatenate([stamps[:1].repeat(2), stamps, stamps[-1:].repeat(2)])
    return (
        np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1).astype(np.int64)
        if len(stamps)
        else stamps
    )


def _duration(container: InputContainer, stream: VideoStream, time_base: Fraction) -> Fraction:
    """Return the stream's stated duration in seconds, otherwise the container's, 0 if neither states one."""
    if stream.duration:
        return stream.duration * time_base
    with suppress(ValueError):  # Matroska states it per stream, as HH:MM:SS.nnnnnnnnn
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return Fraction(container.duration or 0, av.time_base)


def _spaced(keys: Sequence[int], gap: Fraction) -> list[int]:
    kept: list[int] = []
    for key in keys:
        if not kept or key - kept[-1] >= gap:
            kept.append(key)
    return kept


def _enter(open_source: Opener, stream_index: int, start_pts: int, targets: Sequence[int]) -> VideoFrame | None:
    """Return a frame at or before one of the `targets` at which decoding can begin, None if there is none.

    Each target is tried: with intra refresh, packets are marked as keyframes and frames are not.
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
    """Return a reason for the user why FFmpeg cannot open the bytes."""
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
    """Return the camera's time of recording as ISO 8601 in UTC, None if its clock was never set."""
    stated = container.metadata.get("creation_time") or stream.metadata.get("creation_time") or ""
    try:
        moment = datetime.fromisoformat(stated)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return moment.isoformat() if moment.year > UNSET_CLOCK_YEAR else None
