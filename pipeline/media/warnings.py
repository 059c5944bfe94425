"""Describe for the user what is wrong with a video: what is damaged, missing, guessed or not processed."""

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.cores.plan import NS
from pipeline.media.container import (
    video_streams,
)
from pipeline.media.display import side_data
from pipeline.media.extent import is_short
from pipeline.media.probe import Probe
from pipeline.media.tone import transfer_of, why_not_shown
from pipeline.media.transport import Layout

DAMAGED = "damaged"
Note = tuple[int, str]
"""A cell and a note about it for the user: DAMAGED, or the other size of its pictures as WIDTHxHEIGHT."""
HOLE_S, HOLE_RATIO = 60, 20
"""A pause between two frames is a gap in the clock if it is longer than both: seconds, and multiples of the median
    pause."""
MAX_NAMED = 5
"""Most places that a warning lists."""


def notes_to_json(notes: Iterable[Note]) -> str | None:
    """Return the notes of a chunk as JSON, None if there are none."""
    ordered = sorted(notes)
    return json.dumps(ordered) if ordered else None


def read_notes(warnings: Iterable[str | None]) -> list[Note]:
    """Return the notes in the warnings of chunks, in order of time."""
    return sorted({(int(cell), str(what)) for warning in warnings if warning for cell, what in json.loads(warning)})


def describe_warnings(
    probe: Probe, notes: Iterable[Note], times_ns: NDArray[np.int64], cell_seconds: float
) -> str | None:
    """Return the warning about a whole video, the same sentence whatever the length of its chunks, or None.

    notes: of all chunks together. `read_notes` reads them from the warnings of the chunks.
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
    if probe.kind == "video" and is_short(end_s, probe.promised_s):
        remarks.append(f"ends early: {end_s:.1f} of {probe.promised_s:.1f} s")
    return "; ".join(remarks) or None


def further_videos_warning(container: InputContainer, stream: VideoStream, layout: Layout) -> str | None:
    """Return the warning about videos beside the processed one, None if there are none."""
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


def guessed_times_warning(fps: Fraction, *, is_stated: bool, is_clockless: bool) -> str | None:
    """Return the warning that times are guessed, None if the stream states its rate and has no other clock."""
    if is_clockless and is_stated:
        return None  # the stream states its rate and has no other clock
    why = "the stream says no rate" if is_clockless else "its time stamps cannot be used"
    return f"times are guessed: {why}, {float(fps):g} frames a second are assumed"


def colour_warning(frame: VideoFrame, stated_transfer: int) -> str | None:
    """Return the warning about colours that cannot be shown, None if they can."""
    is_dolby_vision = any(side_data(frame, kind) for kind in (Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER))
    return why_not_shown(transfer_of(frame, stated_transfer), int(frame.colorspace), is_dolby_vision=is_dolby_vision)


def _holes(times_ns: NDArray[np.int64]) -> list[str]:
    """Return the remark about gaps in the clock, as a list of one or none."""
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
