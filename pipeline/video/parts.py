"""Divide the tracking of a video into parts that may be carried out in any place."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.camera import Steady
from pipeline.cores.pauses import segments
from pipeline.models.tracker_options import TRACKERS, hole_updates, memory_updates, resolve, silence_s
from pipeline.video.blocks import TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import NOMINAL_FPS, Timeline

MS_PER_PART = 10_000
"""Milliseconds of work of one tracking task, by the estimate below. A new worker needs some seconds to load the
trackers, so smaller parts would cost more than they save."""
MS_PER_FRAME, MS_PER_DETECTION = 0.8, 0.25
"""Milliseconds of OccluBoost per frame and per detection, on one core (tests/bench/tracking_at_scale.py)."""

COUNTED_FPS = 8
"""The analysed frames per second for which track.min_frames is stated."""


@dataclass(frozen=True, slots=True)
class PartOfShot:
    """Frames that one tracker processes.

    shot: index of the shot.
    frames: (A,) int64. The analysed frames from a first detection to the last frame before a pause.
    times_ns: (A,) int64, of those frames.
    steady: the camera motion in those frames.
    updates_before: number of updates of the tracker between the beginning of the shot and these frames.
    min_frames: a track with fewer boxes becomes no tracklet.
    is_brief: whether the shot has too few analysed frames for a track to be confirmed.
    """

    shot: int
    frames: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    steady: Steady
    updates_before: int
    min_frames: int
    is_brief: bool


@dataclass(frozen=True, slots=True)
class Part:
    """The work of one tracking task, in order of frames.

    job: the chunks of the video.
    number: index of this part.
    step_s: usual time between analysed frames, in seconds.
    first_frames: (C + 1,) int64. Chunk c holds the frames [first_frames[c], first_frames[c + 1]).
    pieces: the frames to track, each piece with a new tracker.
    size: width and height of the picture in px.
    """

    job: VideoChunks
    number: int
    step_s: float
    first_frames: NDArray[np.int64]
    pieces: tuple[PartOfShot, ...]
    size: tuple[int, int]


RunParts = Callable[[Sequence[Part]], Iterable[TrackingResult]]
"""The function that carries out `track.track_part` for every part, in any place, and returns the results in order."""


def plan_parts(job: VideoChunks, timeline: Timeline, shots: Sequence[tuple[int, int]]) -> list[Part]:
    """Return parts that can be tracked separately and still give the rows of shots tracked from first to last frame.

    The pieces are shots, and the segments of a shot on either side of a pause that is longer than the tracker's
    memory. They are grouped into parts of about MS_PER_PART.
    """
    track = job.config.track
    frames = np.flatnonzero(timeline.analysed)
    times_ns = timeline.times_ns[frames]
    step_s = float(np.median(np.diff(times_ns))) / 1e9 if len(frames) > 1 else 1 / NOMINAL_FPS
    updates = memory_updates(track.memory_s, step_s)
    memory = TRACKERS[track.tracker].memory(resolve(track.tracker, track.min_score, updates, track.options))
    enough_frames = least_frames(track.min_frames, times_ns)
    size = timeline.width, timeline.height
    parts: list[Part] = []
    waiting: list[PartOfShot] = []
    work_ms = 0.0
    for shot, (first, end) in enumerate(np.searchsorted(frames, np.array(shots)).tolist()):
        num_detections = timeline.num_detections[frames[first:end]]
        for segment in segments(
            times_ns[first:end] / 1e9,
            num_detections > 0,
            memory=memory,
            silence_s=silence_s(track.memory_s, step_s),
            hole_updates=hole_updates(updates),
        ):
            piece = slice(first + segment.start, first + segment.end)
            min_frames = min(enough_frames, end - first)
            steady = timeline.steady.within(frames[piece])
            is_brief = end - first < max(enough_frames, 2)
            waiting.append(
                PartOfShot(shot, frames[piece], times_ns[piece], steady, segment.updates_before, min_frames, is_brief)
            )
            work_ms += MS_PER_FRAME * (segment.end - segment.start)
            work_ms += MS_PER_DETECTION * int(num_detections[segment.start : segment.end].sum())
            if work_ms >= MS_PER_PART:
                parts.append(Part(job, len(parts), step_s, timeline.first_frames, tuple(waiting), size))
                waiting, work_ms = [], 0.0
    if waiting:
        parts.append(Part(job, len(parts), step_s, timeline.first_frames, tuple(waiting), size))
    return parts


def least_frames(min_frames: int, times_ns: NDArray[np.int64]) -> int:
    """Return the least number of analysed frames of a tracklet.

    Where more than COUNTED_FPS are analysed, it rises with their number, because a mistake of the detector lasts as
    long as before. Where fewer are, it stays, because fewer frames would prove less.

    times_ns: (A,) rising. The times of the analysed frames. Holes in the video do not count.
    """
    steps_ns = np.diff(times_ns)
    if not len(steps_ns):
        return min_frames
    usual_ns = float(np.mean(steps_ns[steps_ns <= 2 * np.median(steps_ns)]))
    return max(min_frames, round(min_frames * 1e9 / (COUNTED_FPS * usual_ns)))


def track_here(parts: Sequence[Part]) -> Iterable[TrackingResult]:
    """Carry out parts in this process, as RunParts."""
    from pipeline.video.track import track_part  # imports torch and boxmot, which takes some seconds

    return [track_part(part) for part in parts]
