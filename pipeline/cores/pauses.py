"""Split a shot into segments that can be tracked separately, at pauses longer than the tracker's memory.

A tracker that has forgotten everybody differs from a fresh one only in its number of updates, and each segment
states that number. So segments that are tracked separately, in any order, give the rows of the unbroken shot. No
tracker needs the empty frames between segments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Segment:
    """Analysed frames [start, end) of a shot. The first and the last one have a detection.

    updates_before: number of updates that a tracker would have had before, from the start of the shot.
    """

    start: int
    end: int
    updates_before: int


def segments(
    times_s: NDArray[np.float64], occupied: NDArray[np.bool_], *, memory: int, silence_s: float, hole_updates: int
) -> list[Segment]:
    """Split a shot of A analysed frames at every pause.

    times_s: (A,) rising.
    occupied: (A,) bool. Whether a frame has a detection.
    memory: number of empty updates after which a tracker remembers nobody.
    silence_s: two frames farther apart than this are a hole, for which the tracker gets `hole_updates` empty
        updates.
    """
    at = np.flatnonzero(occupied)
    if not len(at):
        return []
    holes = np.concatenate([[0], np.cumsum(np.diff(times_s) > silence_s)])
    updates = np.arange(len(times_s)) + hole_updates * holes
    breaks = np.flatnonzero(np.diff(updates[at]) > memory)  # all of these updates but the last are empty
    starts, ends = at[np.concatenate([[0], breaks + 1])], at[np.append(breaks, len(at) - 1)] + 1
    return [
        Segment(start, end, before)
        for start, end, before in zip(starts.tolist(), ends.tolist(), updates[starts].tolist(), strict=True)
    ]
