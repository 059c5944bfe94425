"""Where a shot can be tracked in segments: between two of them nobody is seen for longer than a tracker remembers.

A tracker that has forgotten everybody differs from a fresh one in its count of updates alone, and that is given along:
segments tracked apart, in any order, hold the very rows of the unbroken shot. Empty frames outside of segments need not
be shown to any tracker.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Segment:
    """Analysed frames [start, end) of a shot, the first and the last of them with a detection.

    updates_before: how often a tracker would have been updated before, had it seen the shot from its beginning.
    """

    start: int
    end: int
    updates_before: int


def segments(
    times_s: NDArray[np.float64], seen: NDArray[np.bool_], *, memory: int, silence_s: float, hole_updates: int
) -> list[Segment]:
    """Divide a shot of A analysed frames at every pause.

    times_s: (A,) rising. seen: (A,) whether a frame has a detection. memory: empty updates after which a tracker knows
    nobody. silence_s: between two frames further apart than that, the tracker is given `hole_updates` empty updates.
    """
    at = np.flatnonzero(seen)
    if not len(at):
        return []
    holes = np.concatenate([[0], np.cumsum(np.diff(times_s) > silence_s)])
    updates = np.arange(len(times_s)) + hole_updates * holes
    breaks = np.flatnonzero(np.diff(updates[at]) > memory)  # of so many updates all but the last are empty
    starts, ends = at[np.concatenate([[0], breaks + 1])], at[np.append(breaks, len(at) - 1)] + 1
    return [
        Segment(start, end, before)
        for start, end, before in zip(starts.tolist(), ends.tolist(), updates[starts].tolist(), strict=True)
    ]
