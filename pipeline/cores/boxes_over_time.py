"""The boxes of several tracks at any moment, from the boxes at some moments.

Laws:
- Between two boxes of a track that are at most `max_gap_ns` apart, the box moves evenly.
- A box is held for `hold_ns` where its track begins or ends, and on both sides of a longer gap, but not over the middle
  of the gap.
- At the moment of a box, the box is exactly that one.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BoxesOverTime:
    """S parts of tracks, ordered by their start. In each, one box moves evenly into another.

    tracks: (S,) int64.
    starts: (S,) int64 ns.
    ends: (S,) int64 ns. The part is [start, end).
    first_boxes: (S, 4) float64 xyxy px, at the start.
    last_boxes: (S, 4) float64 xyxy px, at the end.
    longest_ns: length of the longest part.
    """

    tracks: Times
    starts: Times
    ends: Times
    first_boxes: NDArray[np.float64]
    last_boxes: NDArray[np.float64]
    longest_ns: int

    @classmethod
    def of(cls, tracks: Times, times_ns: Times, boxes: NDArray[np.floating], *, max_gap_ns: int, hold_ns: int) -> Self:
        """Return the parts of N boxes in any order. A track has at most one box at a time.

        tracks: (N,) int64.
        times_ns: (N,) int64 ns.
        boxes: (N, 4) xyxy px.
        """
        order = np.lexsort((times_ns, tracks))
        tracks, times, knots = tracks[order], times_ns[order].astype(np.int64), boxes[order].astype(np.float64)
        gaps = np.diff(times)
        is_follower = tracks[1:] == tracks[:-1]
        moves = np.flatnonzero(is_follower & (gaps <= max_gap_ns))
        # Half of the way to the neighbour of the same track, for those that are held.
        room = np.where(is_follower, gaps // 2, hold_ns)
        is_moving = is_follower & (gaps <= max_gap_ns)
        last = np.flatnonzero(~np.append(is_moving, False)) if len(times) else np.empty(0, np.int64)
        first = np.flatnonzero(~np.append(False, is_moving)) if len(times) else np.empty(0, np.int64)
        after = np.minimum(np.append(room, hold_ns)[last], hold_ns)
        before = np.minimum(np.append(hold_ns, room)[first], hold_ns)
        starts = np.concatenate([times[moves], times[last], times[first] - before])
        ends = np.concatenate([times[moves + 1], times[last] + after + 1, times[first]])
        first_boxes = np.concatenate([knots[moves], knots[last], knots[first]])
        last_boxes = np.concatenate([knots[moves + 1], knots[last], knots[first]])
        parts = np.argsort(starts, kind="stable")
        parts = parts[(ends > starts)[parts]]
        owners = np.concatenate([tracks[moves], tracks[last], tracks[first]])
        longest = int((ends - starts).max(initial=0))
        return cls(owners[parts], starts[parts], ends[parts], first_boxes[parts], last_boxes[parts], longest)

    def at(self, time_ns: int) -> tuple[Times, NDArray[np.float64]]:
        """Return the tracks that have a box at a moment, (K,) and ascending, and their (K, 4) boxes in xyxy px."""
        low = np.searchsorted(self.starts, time_ns - self.longest_ns, side="left")
        high = np.searchsorted(self.starts, time_ns, side="right")
        now = low + np.flatnonzero(self.ends[low:high] > time_ns)
        now = now[np.argsort(self.tracks[now], kind="stable")]
        share = (time_ns - self.starts[now]) / (self.ends[now] - self.starts[now])
        moved = self.first_boxes[now] + (self.last_boxes[now] - self.first_boxes[now]) * share[:, None]
        return self.tracks[now], moved
