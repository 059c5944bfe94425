"""The boxes of a shot, read one window of frames at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.cores.fill import Knots, ShotFrames
from pipeline.video.blocks import BlockReader, TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import Timeline

FRAMES_PER_WINDOW = 4_096
"""Number of frames whose boxes are read, and whose rows are made, at a time."""


def frames_of_shots(timeline: Timeline, shots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ShotFrames]]:
    for shot, (start, end) in enumerate(shots):
        analysed = start + np.flatnonzero(timeline.analysed[start:end])
        yield shot, ShotFrames(start, timeline.times_ns[start:end], analysed)


def windows(
    job: VideoChunks, shot: ShotFrames, tracked: TrackingResult, boxes: BlockReader
) -> Iterator[tuple[int, int, Knots]]:
    """Yield windows [start, end) of a shot's frames, with all knots on which their rows depend, and some more around
    them."""
    margin_ns, times_ns, analysed = fill_ns(job), shot.times_ns, shot.analysed
    for start in range(shot.start, shot.end, FRAMES_PER_WINDOW):
        end = min(start + FRAMES_PER_WINDOW, shot.end)
        # A row lies between neighbouring analysed frames, or between knots that are at most fill_gap_s apart.
        first = shot.start + int(np.searchsorted(times_ns, times_ns[start - shot.start] - margin_ns))
        stop = shot.start + int(np.searchsorted(times_ns, times_ns[end - 1 - shot.start] + margin_ns, side="right"))
        before, after = np.searchsorted(analysed, (start, end)).tolist()
        first = min(first, *analysed[before - 1 : before].tolist(), start)
        stop = max(stop, *(analysed[after : after + 1] + 1).tolist(), end)
        box_rows = boxes.between(first, stop)
        tracklets = tracked.tracklets(box_rows)
        box_rows, tracklets = box_rows[tracklets >= 0], tracklets[tracklets >= 0]
        yield start, end, Knots.ordered(tracklets, box_rows["frame"], box_rows["box"], box_rows["score"])


def fill_ns(job: VideoChunks) -> int:
    return round(job.config.track.fill_gap_s * 1e9)
