"""Summarise the tracklets of a shot for linking. This is the first step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import at_edges
from pipeline.cores.fill import Intervals, Knots, ShotFrames

END_S = 3.0
"""Seconds at either end of a tracklet of which the linker knows the boxes. Somebody who is half hidden before a gap was
mostly seen as a whole within this time."""
EDGE_PX = 3.0
"""A box that is nearer to the edge of the picture than this is cut off there."""


@dataclass(frozen=True, slots=True)
class Tracklet:
    """One tracklet as the linker needs it.

    shot: index of its shot. A number of its own if the tracklet spans several shots.
    intervals: (M, 2) int64. Rising half-open runs of the video's frames in which it has a row, filled or held ones
        included.
    head_ns, head_boxes: (H,) ns, (H, 4) px. Its boxes in the first END_S, as a still camera would see them.
    tail_ns, tail_boxes: (T,) ns, (T, 4) px. Its boxes in the last END_S, as a still camera would see them.
    body, face: mean unit vectors, each in one embedding space. None if there is none.
    first_box, mean_box: (4,) px in the picture.
    body_steadiness, face_steadiness: similarity of its own ends (cores.likeness.steadiness). nan if unknown.
    ends: the shots in which it begins and ends, if it spans several. None means `shot`.
    cut_off: whether the edge of the picture cuts off the tallest of the head_boxes and of the tail_boxes at the top or
        bottom. How tall the person is there is not known, only how tall at least.
    """

    shot: int
    intervals: NDArray[np.int64]
    head_ns: NDArray[np.int64]
    head_boxes: NDArray[np.float32]
    tail_ns: NDArray[np.int64]
    tail_boxes: NDArray[np.float32]
    body: NDArray[np.float32] | None
    face: NDArray[np.float32] | None
    first_box: NDArray[np.float32]
    mean_box: NDArray[np.float64]
    body_steadiness: float = float("nan")
    face_steadiness: float = float("nan")
    ends: tuple[int, int] | None = None
    cut_off: tuple[bool, bool] = (False, False)


def summarise(
    shot_index: int,
    shot: ShotFrames,
    knots: Knots,
    occupied: Intervals,
    bodies: Sequence[NDArray[np.float32] | None],
    faces: Sequence[NDArray[np.float32] | None],
    steadiness: NDArray[np.float64] | None = None,
    mean_boxes: NDArray[np.float64] | None = None,
    steady_boxes: NDArray[np.float32] | None = None,
    height: int | None = None,
) -> list[Tracklet]:
    """Return the tracklets 0, 1, 2… of one shot.

    bodies, faces: one mean unit vector per tracklet, or None.
    steadiness: (T, 2) of body and face. nan if unknown.
    mean_boxes: (T, 4). Needed if `knots` holds only the ends of the tracklets.
    steady_boxes: (K, 4). The boxes of `knots` as a still camera would see them. Needed if the camera moves.
    height: of the picture in px. None if it is not known; then nobody is cut off.
    """
    if steadiness is None:
        steadiness = np.full((len(bodies), 2), np.nan)
    if steady_boxes is None:
        steady_boxes = knots.boxes
    end_ns = int(END_S * 1e9)
    tracklets = []
    for index, (body, face) in enumerate(zip(bodies, faces, strict=True)):
        first, stop = np.searchsorted(knots.tracklets, (index, index + 1))
        times_ns, boxes = shot.times_ns[knots.frames[first:stop] - shot.start], steady_boxes[first:stop]
        shown_boxes = knots.boxes[first:stop]
        head = slice(0, np.searchsorted(times_ns, times_ns[0] + end_ns, side="right"))
        tail = slice(np.searchsorted(times_ns, times_ns[-1] - end_ns), None)
        first, stop = np.searchsorted(occupied.tracklets, (index, index + 1))
        spans = np.stack([occupied.starts[first:stop], occupied.ends[first:stop]], axis=1)
        steady = steadiness[index].tolist()
        mean_box = shown_boxes.mean(axis=0, dtype=np.float64) if mean_boxes is None else mean_boxes[index]
        ends = (times_ns[head], boxes[head], times_ns[tail], boxes[tail])
        cut_off = (_is_cut_off(shown_boxes[head], height), _is_cut_off(shown_boxes[tail], height))
        tracklets.append(
            Tracklet(shot_index, spans, *ends, body, face, shown_boxes[0], mean_box, *steady, cut_off=cut_off)
        )
    return tracklets


def _is_cut_off(boxes: NDArray[np.float32], height: int | None) -> bool:
    """Return whether the tallest box ends at the upper or lower edge of the picture. False if `height` is unknown."""
    if height is None:
        return False
    tallest = boxes[[np.argmax(boxes[:, 3] - boxes[:, 1])]]
    _, upper, _, lower = at_edges(tallest, np.inf, height, EDGE_PX)[0]
    return bool(upper or lower)


def appearance_key(tracklet: Tracklet) -> tuple:
    """Return a sort key that orders as cores.number does. Its other parts separate only tracklets that no detector
    yields."""
    left, top, right, bottom = tracklet.first_box.tolist()
    vectors = [b"" if vector is None else vector.tobytes() for vector in (tracklet.body, tracklet.face)]
    ends = (tracklet.tail_ns.tolist(), tracklet.tail_boxes.tolist(), tracklet.head_boxes.tolist())
    return (int(tracklet.intervals[0, 0]), left, top, right, bottom, tracklet.intervals.tolist(), ends, vectors)
