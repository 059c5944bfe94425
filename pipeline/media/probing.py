"""Probe a source: find out what decoding needs to know about it.

Contract: a Probe depends on the bytes alone. A probe reads the header and a few frames, and tries once to enter the
file midway. It reads through a file without an index if the file is small or does not state its duration. A
DataError states what is wrong with the source.
"""

from datetime import UTC, datetime
from fractions import Fraction

from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.cores.plan import NS
from pipeline.errors import DataError, blame_machine
from pipeline.media import iso
from pipeline.media.aspect import TOLERANCE, PixelAspects
from pipeline.media.container import (
    Opener,
    fraction,
    opened,
    opened_file,
    video_stream,
)
from pipeline.media.display import insets_of, orientation_of
from pipeline.media.entry import find_entry
from pipeline.media.extent import measure_extent, spaced
from pipeline.media.head import decode_head, find_start
from pipeline.media.iso import WHOLE
from pipeline.media.pictures import read_picture
from pipeline.media.probe import Probe
from pipeline.media.sizes import MAX_FRAME_PIXELS, MAX_PICTURE_PIXELS, HugeError, refuse
from pipeline.media.transport import Layout, joined, read_layout
from pipeline.media.warnings import colour_warning, further_videos_warning, guessed_times_warning

MIN_SIDE_PX = 16
"""Smaller pictures are refused: nobody is visible in them, and a detector's strides leave nothing of them."""
DEFAULT_RATE = Fraction(25)
MAX_RATE = 1000
"""Frames a second. A higher stated rate is the tick of a clock."""
KEYFRAME_GAP = Fraction(1, 2)
"""Seconds. Keyframes that follow more closely are dropped, as in videos where every frame is one."""
ASPECT_FORMATS = frozenset({"matroska", "mov", "asf", "mxf"})
"""Formats whose headers state the pixel aspect. Players believe these headers rather than the frames."""
UNSET_CLOCK_YEAR = 1970
LONG_S, LEAST_BYTES_PER_S = 3600, 500
"""A longer video with fewer bytes a second has gaps. If it cannot be entered midway, it is planned as if it were
shorter."""


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
        if isinstance(error, MemoryError):
            raise
        raise DataError(_why_unreadable(open_source, error)) from None
    except OSError as error:
        blame_machine(error)
        raise DataError(f"cannot be read: {error.strerror or error}") from None


def _probe_picture(open_source: Opener, codec: str) -> Probe:
    height, width = read_picture(open_source).shape[:2]
    _check_limit(width, height, MAX_PICTURE_PIXELS)
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
        profile="",
        pixel_format="",
        interlaced=False,
        fps=DEFAULT_RATE,
        time_base=Fraction(1, NS),
        start_pts=0,
        duration_s=0.0,
        promised_s=0.0,
        keyframe_ns=(),
        enterable=False,
        times_are_counted=True,
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
    _check_limit(stream.width, stream.height, MAX_FRAME_PIXELS)
    formats = set(container.format.name.split(","))
    time_base, (delay, shown, head) = fraction(stream.time_base), decode_head(container, stream)
    if shown is None or not time_base:
        raise DataError(f"no frame of its {stream.codec_context.name} video can be decoded")
    is_clockless = bool(container.format.flags & Flags.no_timestamps.value)
    start_pts, times_are_counted = find_start(head, time_base)
    times_are_counted = times_are_counted or is_clockless
    stated_rate = _stated_rate(stream, is_clockless=is_clockless)
    fps = stated_rate or DEFAULT_RATE

    size = _size(open_source)
    extent = measure_extent(open_source, container, stream, size=size, delay=delay, start_pts=start_pts, fps=fps)
    times_are_counted, duration_s = times_are_counted or extent.falls_back, extent.duration_s
    # A keyframe with a wrong time stamp would lead decoding to the wrong place.
    ordered = head[0].pts == start_pts and extent.is_ordered
    keys = [key for key in sorted(extent.keys) if key >= start_pts]
    # Try the middle, or the end of the first group of pictures if that is later.
    targets = [start_pts + int(duration_s / 2 / time_base), *([keys[1] + 1] if len(keys) > 1 else [])]
    entered = None if times_are_counted or not ordered else find_entry(open_source, stream.index, start_pts, targets)

    if entered is None:
        duration_s = min(duration_s, max(LONG_S, Fraction(size, LEAST_BYTES_PER_S)))
    # A sender may begin with a smaller picture. The larger one is the video's size.
    first = shown
    if entered is not None and entered.width * entered.height > first.width * first.height:
        first = entered
    insets = insets_of(open_source, container, stream, first)
    frames_say_aspect = not formats & ASPECT_FORMATS
    aspect = _pixel_aspect(stream, first, frames_say_aspect=frames_say_aspect)
    mirrored, rotation = orientation_of(shown)
    across = max(1, round((first.width - insets[0] - insets[2]) * aspect))
    down = first.height - insets[1] - insets[3]
    width, height = (down, across) if rotation % 180 else (across, down)
    _check_size(width, height)
    transfer = int(stream.codec_context.color_trc or 0)
    is_cut_ts = "mpegts" in formats and all(size % packet for packet in (188, 192, 204))
    is_guessed = times_are_counted and "avi" not in formats  # in AVI, times are counts of frames by definition
    warnings = [
        "ends in the middle of a packet: it may be cut off" if is_cut_ts else None,
        further_videos_warning(container, stream, layout),
        guessed_times_warning(fps, is_stated=stated_rate is not None, is_clockless=is_clockless)
        if is_guessed
        else None,
        colour_warning(first, transfer),
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
        profile=stream.codec_context.profile or "",
        pixel_format=first.format.name,
        interlaced=first.interlaced_frame,
        fps=fps,
        time_base=time_base,
        start_pts=start_pts,
        duration_s=round(float(duration_s), 3),
        promised_s=round(float(extent.promised_s), 3),
        keyframe_ns=tuple(int((key - start_pts) * time_base * NS) for key in spaced(keys, KEYFRAME_GAP / time_base)),
        enterable=entered is not None,
        times_are_counted=times_are_counted,
        recorded_at=_recorded_at(container, stream),
        stream=stream.index,
        packet_bytes=layout.packet_bytes,
        packet_ids=layout.ids,
        warning="; ".join(filter(None, warnings)) or None,
    )


def _stated_rate(stream: VideoStream, *, is_clockless: bool) -> Fraction | None:
    """Return the frames a second that the container, or a stream without a clock, states. None if it states none."""
    # A bare stream states its rate itself or not at all. FFmpeg then assumes 25 a second.
    rates = (
        [stream.codec_context.framerate]
        if is_clockless
        else [stream.average_rate, stream.guessed_rate, stream.base_rate]
    )
    return next((rate for rate in map(fraction, rates) if rate and rate <= MAX_RATE), None)


def _pixel_aspect(stream: VideoStream, frame: VideoFrame, *, frames_say_aspect: bool) -> Fraction:
    """Return the width of a stored pixel over its height, as the container or, if frames state it, `frame` does."""
    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    if frames_say_aspect and abs((frame_aspect := PixelAspects()(frame)) / aspect - 1) > TOLERANCE:
        return frame_aspect  # the decoder's latest value may differ from the first frame's
    return aspect


def _layout(open_source: Opener, container: InputContainer) -> Layout:
    stream = video_stream(container)
    if stream is not None and "mpegts" in container.format.name:
        with opened_file(open_source) as file:
            if (layout := read_layout(file, stream.id)) is not None:
                return layout
    return Layout(0, (), ())


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(f"too small to show a person: {width} x {height} px, each side needs at least {MIN_SIDE_PX}")


def _check_limit(width: int, height: int, limit: int) -> None:
    try:
        refuse(width, height, limit)
    except HugeError as error:
        raise DataError(f"too large to be decoded: {error}; make it smaller") from None


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
    """Return the camera's time of recording as ISO 8601 in UTC. None if it states none, or if its clock was never set
    (1970 or earlier)."""
    stated = container.metadata.get("creation_time") or stream.metadata.get("creation_time") or ""
    try:
        moment = datetime.fromisoformat(stated)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return moment.isoformat() if moment.year > UNSET_CLOCK_YEAR else None
