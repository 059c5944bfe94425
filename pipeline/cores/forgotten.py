"""Where a forgotten person was in the picture, and who is at these places when a video is tracked again.

A tombstone must hold no biometrics, so a person is recognised by place and time alone. The numbers of frames depend on
the content of a video and on nothing else. Another detector or tracker therefore finds the person in the same frames
at about the same places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import area

STEP_S = 0.5
"""Seconds between two kept boxes. In between, boxes are interpolated."""
SAME_PLACE = 0.5
"""The least IoU of two boxes of one person in one frame, as in the CLEAR MOT metrics (Bernardin and Stiefelhagen)."""
SAME_PERSON = 0.5
"""The least share of a tracklet's boxes, while the forgotten person is there, that must be that person's."""


@dataclass(frozen=True, slots=True)
class Path:
    """The places of a person in consecutive frames.

    frames: (N,) int64, ascending, at least one. Numbers of the frames whose boxes are kept.
    times_s: (N,) float64 s, of these frames.
    boxes: (N, 4) float64 xyxy px, whole numbers.
    """

    frames: NDArray[np.int64]
    times_s: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def within(self, frames: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some frames lie on the path."""
        return (frames >= self.frames[0]) & (frames <= self.frames[-1])

    def at(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (M, 4) boxes in M frames that lie on the path."""
        return np.stack([np.interp(frames, self.frames, side) for side in self.boxes.T], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return the path as a tombstone stores it."""
        times_s = np.round(self.times_s, 6).tolist()
        return {"frames": self.frames.tolist(), "times_s": times_s, "boxes": self.boxes.astype(int).tolist()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the path that `to_json` made."""
        boxes = np.array(stored["boxes"], np.float64).reshape(-1, 4)
        return cls(np.array(stored["frames"], np.int64), np.array(stored["times_s"], np.float64), boxes)


def paths_of(
    tracklets: NDArray[np.int64],
    frames: NDArray[np.int64],
    times_s: NDArray[np.float64],
    boxes: NDArray[np.float64],
) -> Iterator[Path]:
    """Yield the paths of N boxes of one person: one for each run of frames without a gap in one tracklet.

    tracklets, frames: (N,) int64 of each box.
    times_s: (N,) s of each frame.
    boxes: (N, 4) xyxy px.
    """
    order = np.lexsort((frames, tracklets))
    tracklets, frames, times_s, boxes = tracklets[order], frames[order], times_s[order], boxes[order]
    breaks = np.flatnonzero((np.diff(tracklets) != 0) | (np.diff(frames) != 1)) + 1
    for run in np.split(np.arange(len(frames)), breaks):
        if len(run):
            steps = np.flatnonzero(np.diff(np.floor(times_s[run] / STEP_S))) + 1
            kept = run[np.unique([0, *steps.tolist(), len(run) - 1])]
            yield Path(frames[kept], times_s[kept], np.rint(boxes[kept]))


class Recogniser:
    """Finds the tracklets of a forgotten person. All boxes of the video pass through it once, whole frames at a time.

    paths: of the person.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._num_boxes = np.zeros(0, np.int64)
        self._num_won = np.zeros(0, np.int64)

    def add(self, tracklets: NDArray[np.int64], frames: NDArray[np.int64], boxes: NDArray[np.float64]) -> None:
        """Count the boxes of N rows while the person is there. In each frame, the nearest box is the person's.

        tracklets: (N,) ids, from 1. frames: (N,). boxes: (N, 4) xyxy px.
        """
        at = np.flatnonzero(np.any([path.within(frames) for path in self._paths], axis=0))
        if not len(at):
            return
        overlaps = np.zeros(len(at))
        for path in self._paths:
            here = np.flatnonzero(path.within(frames[at]))
            places = path.at(frames[at[here]])
            overlaps[here] = np.maximum(overlaps[here], _paired_iou(boxes[at[here]], places))
        order = np.lexsort((-overlaps, frames[at]))
        is_nearest = np.append(True, np.diff(frames[at[order]]) != 0)
        won = at[order[is_nearest & (overlaps[order] >= SAME_PLACE)]]
        size = max(len(self._num_boxes), int(tracklets.max()) + 1)
        self._num_boxes = _grown(self._num_boxes, size) + np.bincount(tracklets[at], minlength=size)
        self._num_won = _grown(self._num_won, size) + np.bincount(tracklets[won], minlength=size)

    def tracklets(self) -> NDArray[np.int64]:
        """Return the ids of the tracklets that are the forgotten person."""
        return np.flatnonzero((self._num_won > 0) & (self._num_won >= SAME_PERSON * self._num_boxes))


def _paired_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N,) IoU of paired (N, 4) boxes."""
    shared = area(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))
    union = area(a) + area(b) - shared
    return np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)


def _grown(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.pad(counts, (0, size - len(counts)))
