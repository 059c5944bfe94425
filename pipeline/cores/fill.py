"""Make a row for every frame from the boxes of a tracklet in analysed frames. Gaps are filled linearly in time.

Knots are the tracker's boxes. The frames between two knots of a tracklet are filled if the knots lie on neighbouring
analysed frames, or at most `fill_gap_ns` apart. Longer gaps stay empty. If a tracklet exists in the first analysed
frame of its shot, its first box is held from the first frame of the shot. The same applies at the end of the shot.
Nothing crosses a cut, because all functions work on one shot. Frame numbers are those of the video.

`rows_between` makes the rows of one window of frames, so the memory is bounded even for a shot of a day.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ShotFrames:
    """The frames [start, start + F) of one shot.

    start: number of the first frame in the video.
    times_ns: (F,) int64 ns, rising.
    analysed: (A,) int64, rising. The frames that the detector analysed.
    """

    start: int
    times_ns: NDArray[np.int64]
    analysed: NDArray[np.int64]

    @property
    def end(self) -> int:
        return self.start + len(self.times_ns)


@dataclass(frozen=True, slots=True)
class Knots:
    """K boxes that the tracker gave in one shot (knots), ordered by tracklet, then frame. Boxes between them are
    interpolated. A tracklet has at most one box in a frame.

    tracklets: (K,) int64.
    frames: (K,) int64. Analysed frames.
    boxes: (K, 4) float32 xyxy px.
    scores: (K,) float32.
    """

    tracklets: NDArray[np.int64]
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    @classmethod
    def ordered(
        cls,
        tracklets: NDArray[np.int64],
        frames: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> Self:
        """Return knots from columns in any order."""
        order = np.lexsort((frames, tracklets))
        return cls(tracklets[order], frames[order], boxes[order], scores[order])

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class Rows:
    """R boxes, ordered by frame, then tracklet.

    tracklets, frames: (R,) int64.
    boxes: (R, 4) float32 xyxy px, rounded to 0.1 if interpolated.
    scores: (R,) float32. nan if interpolated.
    interpolated: (R,) bool. Whether the box was filled or held.
    """

    tracklets: NDArray[np.int64]
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    interpolated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class Intervals:
    """M half-open runs of frames [starts, ends) without a hole, ordered by tracklet, then start.

    tracklets: (M,) int64.
    starts: (M,) int64. First frames.
    ends: (M,) int64. Frames after the last ones.
    """

    tracklets: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def rows_between(knots: Knots, shot: ShotFrames, fill_gap_ns: int, first_frame: int, end_frame: int) -> Rows:
    """Return the rows of the frames [first_frame, end_frame) of `shot`.

    `knots` may be a part of those of the shot: for each tracklet the knots in the window, the last one before it and
    the first one after it. The rows do not depend on the division of the shot into windows.
    """
    opens, _ = _ends_of_runs(knots, shot, fill_gap_ns)
    filled = np.flatnonzero(~opens[1:])  # the gaps after these knots are filled
    head = np.flatnonzero(_is_first(knots) & (knots.frames <= _first_analysed(shot)))
    tail = np.flatnonzero(_is_first(knots, backward=True) & (knots.frames >= _last_analysed(shot)))
    here = np.arange(len(knots))

    left = np.concatenate([here, filled, head, tail])
    right = np.concatenate([here, filled + 1, head, tail])
    starts = np.concatenate(
        [knots.frames, knots.frames[filled] + 1, np.full(len(head), shot.start), knots.frames[tail] + 1]
    )
    ends = np.concatenate(
        [knots.frames + 1, knots.frames[filled + 1], knots.frames[head], np.full(len(tail), shot.end)]
    )
    starts, ends = np.maximum(starts, first_frame), np.minimum(ends, end_frame)
    lengths = np.maximum(ends - starts, 0)

    run = np.repeat(np.arange(len(lengths)), lengths)
    frames = starts[run] + np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    left, right = left[run], right[run]
    interpolated = run >= len(knots)
    order = np.lexsort((knots.tracklets[left], frames))
    left, right, frames, interpolated = left[order], right[order], frames[order], interpolated[order]
    return Rows(
        knots.tracklets[left],
        frames,
        _between(knots, shot, left, right, frames),
        np.where(interpolated, np.float32(np.nan), knots.scores[left]).astype(np.float32),
        interpolated,
    )


def intervals(knots: Knots, shot: ShotFrames, fill_gap_ns: int) -> Intervals:
    """Return the frames that have rows in `rows_between` of the whole shot, without making the rows."""
    opens, closes = _ends_of_runs(knots, shot, fill_gap_ns)
    held_before = _is_first(knots) & (knots.frames <= _first_analysed(shot))
    held_after = _is_first(knots, backward=True) & (knots.frames >= _last_analysed(shot))
    starts = np.where(held_before, shot.start, knots.frames)[opens]
    ends = np.where(held_after, shot.end, knots.frames + 1)[closes]
    return Intervals(knots.tracklets[opens], starts, ends)


def _ends_of_runs(knots: Knots, shot: ShotFrames, fill_gap_ns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two (K,) bool arrays: whether nothing is filled before each knot, and after it."""
    times_ns = shot.times_ns[knots.frames - shot.start]
    step = np.searchsorted(shot.analysed, knots.frames)
    filled = (np.diff(knots.tracklets) == 0) & ((np.diff(step) <= 1) | (np.diff(times_ns) <= fill_gap_ns))
    none = np.zeros(min(len(knots), 1), np.bool_)
    return ~np.concatenate([none, filled]), ~np.concatenate([filled, none])


def _is_first(knots: Knots, *, backward: bool = False) -> NDArray[np.bool_]:
    """Return (K,) bool: whether a knot is the first of its tracklet (the last, if `backward`)."""
    changes = np.diff(knots.tracklets) != 0
    border = np.ones(min(len(knots), 1), np.bool_)
    return np.concatenate([changes, border] if backward else [border, changes])


def _first_analysed(shot: ShotFrames) -> int:
    return int(shot.analysed[0]) if len(shot.analysed) else shot.start


def _last_analysed(shot: ShotFrames) -> int:
    return int(shot.analysed[-1]) if len(shot.analysed) else shot.end


def _between(
    knots: Knots,
    shot: ShotFrames,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return boxes interpolated in time from knot `left` to knot `right`, rounded to 0.1 px. A knot's own box is
    unchanged."""
    times_ns, start = shot.times_ns, shot.start
    before_ns = times_ns[knots.frames[left] - start]
    span_ns = times_ns[knots.frames[right] - start] - before_ns
    elapsed_ns = np.where(span_ns > 0, times_ns[frames - start] - before_ns, 0)
    share = elapsed_ns / np.maximum(span_ns, 1)
    a, b = knots.boxes[left].astype(np.float64), knots.boxes[right].astype(np.float64)
    return np.where((left == right)[:, None], a, np.round(a + (b - a) * share[:, None], 1)).astype(np.float32)
