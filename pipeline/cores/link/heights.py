"""Learn from a video how much the heights of its people change over a gap."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import MAD_TO_STD
from pipeline.cores.link.tracklets import END_S, Tracklet

LEAST_LIMIT, MOST_LIMIT = 1.5, 2.0
"""The ratio of the heights on either side of a gap that hidden legs explain, which is the limit where heights change as
much as usual or less, and the largest limit in any video."""
USUAL_SPREAD = 0.1
"""The usual standard deviation of the change of the logarithm of a height, from the first second of an end of a
tracklet to its last one (decision 49)."""
PRIOR_TRACKLETS = 10
"""The number of tracklets as which USUAL_SPREAD counts."""
PART_S = 1.0
"""The length of the two parts of an end that are compared."""


def size_limit(tracklets: Sequence[Tracklet]) -> float:
    """Return the largest ratio of heights over a gap that may be one person's in this video, rounded to 0.001.

    Where people walk towards the camera or away from it, their own tracklets change more than usual, and the limit
    rises with the spread of these changes.
    """
    changes: list[float] = []
    count = 0
    for tracklet in tracklets:
        ends = (tracklet.head_ns, tracklet.head_boxes), (tracklet.tail_ns, tracklet.tail_boxes)
        known = [_change(*end) for end in ends if end[0][-1] - end[0][0] >= (END_S - PART_S / 2) * 1e9]
        changes += known
        count += len(known) > 0
    spread = MAD_TO_STD * float(np.median(np.abs(changes))) if changes else 0.0
    variance = (count * spread**2 + PRIOR_TRACKLETS * USUAL_SPREAD**2) / (count + PRIOR_TRACKLETS)
    return round(min(LEAST_LIMIT ** max(1.0, variance**0.5 / USUAL_SPREAD), MOST_LIMIT), 3)


def _change(times_ns: NDArray[np.int64], boxes: NDArray[np.float32]) -> float:
    """Return the change of the logarithm of the height from the first part of an end to its last one."""
    heights = np.maximum(boxes[:, 3] - boxes[:, 1], 1).astype(np.float64)
    first, last = times_ns <= times_ns[0] + PART_S * 1e9, times_ns >= times_ns[-1] - PART_S * 1e9
    return float(np.log(np.median(heights[last]) / np.median(heights[first])))
