"""Summarise the tracklets of a video for linking, and number them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.fill import Intervals, Knots, intervals
from pipeline.cores.link.tracklets import END_S, Tracklet, summarise
from pipeline.cores.number import number_tracklets
from pipeline.video.blocks import BlockReader, TrackingResult
from pipeline.video.faces import VideoFaces
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import Timeline
from pipeline.video.windows import fill_ns, frames_of_shots, windows


@dataclass(frozen=True, slots=True)
class Summaries:
    """The T tracklets of a video, in tracking order.

    ids: (T,) int64, as published.
    runs: (M, 3) int64. Tracklet, start, end.
    summaries: T summaries for the linker.
    """

    ids: NDArray[np.int64]
    runs: NDArray[np.int64]
    summaries: list[Tracklet]


def summarise_shots(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    boxes: BlockReader,
    faces: VideoFaces,
) -> Summaries:
    """Return the summary of every tracklet for the linker."""
    bodies = [None if np.isnan(body).any() or not len(body) else body for body in tracked.bodies]
    means = [faces.means.get(index) for index in range(len(tracked))]
    steadiness = np.stack(
        [tracked.steadiness, [faces.steadiness.get(index, np.nan) for index in range(len(tracked))]], 1
    )
    end_ns = int(END_S * 1e9)
    first_ns, last_ns = timeline.times_ns[tracked.first_frames], timeline.times_ns[tracked.last_frames]
    box_sums, num_boxes = np.zeros((len(tracked), 4)), np.zeros(len(tracked))
    summaries: list[Tracklet] = []
    all_runs = [np.zeros((0, 3), np.int64)]
    for shot, frames in frames_of_shots(timeline, shots):
        first, stop = np.searchsorted(tracked.shots, (shot, shot + 1)).tolist()
        if first == stop:
            continue
        runs: list[NDArray[np.int64]] = []
        ends: list[Knots] = []
        for start, end, knots in windows(job, frames, tracked, boxes):
            occupied_here = intervals(knots, frames, fill_ns(job))
            runs.append(np.stack([occupied_here.tracklets, occupied_here.starts, occupied_here.ends], axis=1))
            # The linker uses only the first and the last boxes of a tracklet.
            times_ns, of = timeline.times_ns[knots.frames], knots.tracklets
            in_window = (knots.frames >= start) & (knots.frames < end)
            np.add.at(box_sums, of[in_window], knots.boxes[in_window])
            np.add.at(num_boxes, of[in_window], 1)
            is_end = (times_ns <= first_ns[of] + end_ns) | (times_ns >= last_ns[of] - end_ns)
            ends.append(_subset(knots, is_end & in_window))
        all_runs.append(_united(np.concatenate(runs)))
        tracklets, *others = (np.concatenate([getattr(part, name) for part in ends]) for name in Knots.__slots__)
        knots = Knots.ordered(tracklets - first, *others)
        occupied = Intervals(all_runs[-1][:, 0] - first, *all_runs[-1][:, 1:].T)
        in_shot = slice(first, stop)
        mean_boxes = np.round(box_sums[in_shot] / num_boxes[in_shot, None], 1)
        steady_boxes = timeline.steady.boxes(knots.frames, knots.boxes)
        vectors = (bodies[in_shot], means[in_shot], steadiness[in_shot])
        summaries += summarise(shot, frames, knots, occupied, *vectors, mean_boxes, steady_boxes, timeline.height)
    ids = number_tracklets(
        np.array([summary.intervals[0, 0] for summary in summaries], np.int64),
        np.array([summary.first_box for summary in summaries], np.float32).reshape(-1, 4),
    )
    return Summaries(ids, np.concatenate(all_runs), summaries)


def _subset(knots: Knots, chosen: NDArray[np.bool_]) -> Knots:
    return Knots(knots.tracklets[chosen], knots.frames[chosen], knots.boxes[chosen], knots.scores[chosen])


def _united(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the overlapping runs of each tracklet, and order them by tracklet, then start.

    runs: (N, 3) tracklet, start, end. N > 0.
    """
    tracklets, starts, ends = runs[np.lexsort((runs[:, 1], runs[:, 0]))].T
    shift = tracklets * (ends.max() + 1)  # makes the running maximum of the ends start again at each tracklet
    reached = np.maximum.accumulate(ends + shift) - shift
    opens = np.ones(len(runs), np.bool_)
    opens[1:] = (tracklets[1:] != tracklets[:-1]) | (starts[1:] >= reached[:-1])
    last = np.append(np.flatnonzero(opens)[1:], len(runs)) - 1
    return np.stack([tracklets[opens], starts[opens], reached[last]], axis=1)
