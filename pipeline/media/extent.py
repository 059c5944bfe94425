"""Measure the length of a video and find its keyframes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.cores.stamps import FALL_BACK_S
from pipeline.media.container import (
    BadPacket,
    Opener,
    demux,
    fraction,
    opened,
)

SMALL_BYTES = 64 << 20
"""A file without an index is read through if it is no larger. It is read for its content ID anyway."""
END_BYTES = 32 << 20
"""Most bytes to read from the last keyframe of the index on, to find where a video really ends."""
RATE_BYTES = 8 << 20
"""Bytes read from a large file without an index to estimate its duration. A stated duration of up to twice the
estimate is believed."""
LEAST_INDEXED = Fraction(9, 10)
"""An index that covers a smaller share of the duration covers only a part of the file, as in fragmented files."""
STATING_FORMATS = frozenset({"matroska", "mov", "avi", "flv", "asf"})
"""Formats whose headers state the duration. FFmpeg guesses it from the bytes for others."""
REORDERED_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Extent:
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


def measure_extent(
    open_source: Opener,
    container: InputContainer,
    stream: VideoStream,
    *,
    size: int,
    delay: int,
    start_pts: int,
    fps: Fraction,
) -> Extent:
    """Measure a video. The sources are tried in this order: its container's index, all packets of a small file, a
    plausible header."""
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
        is_cut = bool(formats & STATING_FORMATS) and is_short(float(through.end_s), float(promised_s))
        promised_s = promised_s if is_cut else duration_s
    elif not keys:
        duration_s = min(duration_s, _likely_duration(open_source, stream.index, start_pts, size, promised_s))
    ordered = index.is_ordered and all(a < b for a, b in pairwise(keys))
    return Extent(duration_s, promised_s, keys, ordered, falls_back)


def is_short(end_s: float, duration_s: float) -> bool:
    """Return whether a video ends too early for rounding, or for sound that outlasts the pictures, to explain it."""
    return duration_s - end_s > max(1.0, 0.05 * duration_s)


def spaced(keys: Sequence[int], gap: Fraction) -> list[int]:
    """Return the pts of `keys`, rising, without those that follow the one before by less than `gap`."""
    kept: list[int] = []
    for key in keys:
        if not kept or key - kept[-1] >= gap:
            kept.append(key)
    return kept


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
    """Return the keyframes in the container's index."""
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

    delay: from decoding to display, as in `decode_head`.
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
    """Return the duration of a large file in seconds, as the header states it unless the first part of the file
    contradicts it."""
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
    falls_back: as in Extent.
    """

    keys: list[int]
    video_end_s: Fraction
    end_s: Fraction
    falls_back: bool


def _read_through(open_source: Opener, stream_index: int, start_pts: int, fps: Fraction) -> _Through:
    """Read a whole file for the keyframes and the ends of its streams."""
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
    """Return the duration in seconds that the stream states, or else the container, or 0 if neither states one."""
    if stream.duration:
        return stream.duration * time_base
    with suppress(ValueError):  # Matroska states it per stream, as HH:MM:SS.nnnnnnnnn
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return Fraction(container.duration or 0, av.time_base)
