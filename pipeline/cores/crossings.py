"""Who crosses a line, enters or leaves a zone, or comes in or goes out over a side of the picture.

The way of a person is the polyline through the anchors of its detected boxes. Boxes shake, so somebody who stands on a
line crosses it many times. Therefore steps over a line are added up, in one direction against the other, until the
anchor is clear of the line: farther from it than `jitter` of the height of the box. What remains is one crossing or
none. The ends of a line are real: going around an end is no crossing.

Coordinates of lines and zones are shares of the picture's width and height, (0, 0) at the upper left. Distances are
measured in px.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.ranges import Distance, check

SIDES = ("left", "right", "top", "bottom")
SIDE_SHARE = 0.02
"""A box within this share of the picture's width or height from a side touches the side."""
SETTLING_S = 1.0
"""Time after the first box, or before the last one, in which a person moves away from a side, or towards it."""
LEAST_MOTION = 0.05
"""Share of the box that this motion must cover. Somebody who sits at the side of the picture moves less."""
SHOT_BORDER_S = 0.25
"""Somebody who is there from the beginning of a shot has not come in, nor gone out at its end."""

Point = tuple[float, float]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingParams:
    """The knobs `crossings` of conf/base.yaml."""

    lines: Mapping[str, tuple[Point, ...]]
    zones: Mapping[str, tuple[Point, ...]]
    sides: bool
    anchor: Literal["bottom", "centre"]
    jitter: Distance
    max_gap_s: Distance

    def __post_init__(self) -> None:
        check(self)
        for kind, least, shapes in (("lines", 2, self.lines), ("zones", 3, self.zones)):
            for name, points in shapes.items():
                if not name.strip() or "." in name:
                    raise ValueError(f"{kind} must have names without dots, got {name!r}")
                if name in SIDES or (name in self.lines and name in self.zones):
                    raise ValueError(f"{kind} must not be called as a side or as another line or zone, got {name!r}")
                if not all(0 <= share <= 1 for point in points for share in point):
                    raise ValueError(
                        f"{kind} must have points in shares of the picture, 0 to 1, got {_text(name, points)}"
                    )
                if len(points) < least or any(a == b for a, b in pairwise(points)):
                    raise ValueError(f"{kind} must have at least {least} different points, got {_text(name, points)}")

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to cross."""
        return bool(self.lines or self.zones or self.sides)


def _text(name: str, points: Sequence[Point]) -> str:
    return f"{name}: {[list(point) for point in points]}"


@dataclass(frozen=True, slots=True)
class Sightings:
    """The detected boxes of a video, N in order of frames.

    persons: (N,) int64.
    shots: (N,) int64, from 1.
    times_s: (N,) float64.
    boxes: (N, 4) float64 xyxy px.
    """

    persons: NDArray[np.int64]
    shots: NDArray[np.int64]
    times_s: NDArray[np.float64]
    boxes: Points

    def __len__(self) -> int:
        return len(self.persons)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A row of `crossings`.

    kind: `line`, `zone` or `side`.
    line: name of the line, zone or side.
    direction: `in` or `out`.
    crossed: False if the person appeared or vanished inside the zone.
    dwell_s: time in the zone. None unless the person leaves a zone.
    """

    person_id: int
    kind: str
    line: str
    direction: str
    time_s: float
    crossed: bool = True
    dwell_s: float | None = None


def find_crossings(
    sightings: Sightings, shots: Mapping[int, tuple[float, float]], size: tuple[int, int], params: CrossingParams
) -> list[Crossing]:
    """Return the crossings of all persons in order of time.

    shots: start and end of each shot in seconds, by its number.
    size: width and height of the picture in px.
    """
    scale = np.array(size, np.float64)
    lines = {name: np.array(points) * scale for name, points in params.lines.items()}
    zones = {name: _closed(np.array(points) * scale) for name, points in params.zones.items()}
    crossings: list[Crossing] = []
    for way in _ways(sightings):
        anchors = _anchors(way.boxes, params.anchor)
        reach = np.maximum(params.jitter * (way.boxes[:, 3] - way.boxes[:, 1]), 1e-6)
        follows = np.diff(way.times_s) <= params.max_gap_s
        person = int(way.persons[0])
        for name, line in lines.items():
            steps = signed_steps(anchors, line) * follows[:, None]
            is_clear = distances(anchors, line) >= reach
            for step, direction in settled_steps(steps.sum(axis=1), is_clear):
                time_s = _time_of_step(way.times_s, anchors, line, step)
                crossings.append(Crossing(person, "line", name, direction, time_s))
        for visit in _visits(way, anchors, reach, follows, zones):
            crossings += visit
        if params.sides:
            crossings += _over_sides(way, follows, shots[int(way.shots[0])], scale)
    return sorted(crossings, key=lambda item: (item.time_s, item.person_id, item.kind, item.line, item.direction))


def signed_steps(anchors: Points, line: Points) -> NDArray[np.int64]:
    """Return how each of N - 1 steps between (N, 2) anchors crosses each of M - 1 parts of a line: (N - 1, M - 1).

    1: from the left of the line to its right, as seen from the first point towards the last. -1: the other way. 0: the
    step does not cross the part. All anchors count as if they lay a trifle further to the right of the picture and
    lower. So no anchor lies on the line, no step passes exactly through a corner, and nothing is counted twice.
    """
    start, end = line[:-1], line[1:]
    right = _right_of(anchors[:, None], start, end, 1)
    passes = right[1:].astype(np.int64) - right[:-1]
    # The ends of the part lie on the two sides of the step.
    first = _right_of(start[None], anchors[:-1, None], anchors[1:, None], -1)
    second = _right_of(end[None], anchors[:-1, None], anchors[1:, None], -1)
    return passes * (first != second)


def distances(anchors: Points, line: Points) -> NDArray[np.float64]:
    """Return the distance of (N, 2) anchors to the nearest point of a line, (N,) px."""
    start, along = line[:-1], np.diff(line, axis=0)
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    place = np.clip(((anchors[:, None] - start) * along).sum(axis=2) / length, 0, 1)
    nearest = start + place[:, :, None] * along
    return np.sqrt(((anchors[:, None] - nearest) ** 2).sum(axis=2)).min(axis=1)


def settled_steps(steps: NDArray[np.int64], is_clear: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    """Yield the step and the direction of each crossing that remains after shaking is taken out.

    steps: (N - 1,) sums of signed steps. is_clear: (N,) whether an anchor is clear of the line. The first and the last
    anchor count as clear: where a way begins and ends is all that is known of it.
    """
    settled = is_clear.copy()
    settled[[0, -1]] = True
    for start, end in pairwise(np.flatnonzero(settled).tolist()):
        if net := int(steps[start:end].sum()):
            with_net = np.flatnonzero(np.sign(steps[start:end]) == np.sign(net))
            yield start + int(with_net[-1]), "in" if net > 0 else "out"


def is_inside(anchors: Points, zone: Points) -> NDArray[np.bool_]:
    """Return which of (N, 2) anchors are inside a closed zone, by the even-odd rule."""
    (x, y), (x_next, y_next) = zone[:-1].T, zone[1:].T
    at_x, at_y = anchors[:, :1], anchors[:, 1:]
    spans = (y > at_y) != (y_next > at_y)
    slope = (x_next - x) / np.where(y_next == y, 1, y_next - y)
    return ((spans & (at_x < x + (at_y - y) * slope)).sum(axis=1) % 2).astype(np.bool_)


def _visits(
    way: Sightings, anchors: Points, reach: NDArray[np.float64], follows: NDArray[np.bool_], zones: Mapping[str, Points]
) -> Iterator[list[Crossing]]:
    """Yield the beginning and the end of each visit to a zone."""
    person = int(way.persons[0])
    for name, zone in zones.items():
        inside, is_clear = is_inside(anchors, zone), distances(anchors, zone) >= reach
        for piece in _pieces(follows):
            settled = np.flatnonzero(is_clear[piece]) + piece.start
            known = settled if len(settled) else np.array([piece.start])
            changes = known[np.flatnonzero(np.diff(inside[known])) + 1].tolist()
            is_in, came_s = bool(inside[known[0]]), float(way.times_s[piece.start])
            if came := is_in and not inside[piece.start]:
                came_s = _time_of_step(way.times_s, anchors, zone, _last_change(inside, int(known[0])))
            for change in [*changes, None]:
                last = piece.stop - 1 if change is None else _last_change(inside, change)
                time_s = float(way.times_s[last]) if change is None else _time_of_step(way.times_s, anchors, zone, last)
                if is_in:
                    left = change is not None
                    dwell_s = round(time_s - came_s, 3)
                    yield [
                        Crossing(person, "zone", name, "in", round(came_s, 3), came),
                        Crossing(person, "zone", name, "out", round(time_s, 3), left, dwell_s),
                    ]
                is_in, came_s, came = not is_in, time_s, True


def _last_change(inside: NDArray[np.bool_], settled: int) -> int:
    """Return the last step before the anchor `settled` that entered or left the zone."""
    return int(np.flatnonzero(np.diff(inside[: settled + 1]))[-1])


def _over_sides(
    way: Sightings, follows: NDArray[np.bool_], shot: tuple[float, float], scale: NDArray[np.float64]
) -> list[Crossing]:
    """Return the sides over which a person came in or went out."""
    crossings = []
    person = int(way.persons[0])
    for piece in _pieces(follows):
        times_s, boxes = way.times_s[piece], way.boxes[piece]
        begins, ends = float(times_s[0]), float(times_s[-1])
        if begins > shot[0] + SHOT_BORDER_S and (side := _side(boxes[times_s <= begins + SETTLING_S], scale)):
            crossings.append(Crossing(person, "side", side, "in", round(begins, 3)))
        if ends < shot[1] - SHOT_BORDER_S and (side := _side(boxes[times_s >= ends - SETTLING_S][::-1], scale)):
            crossings.append(Crossing(person, "side", side, "out", round(ends, 3)))
    return crossings


def _side(boxes: Points, scale: NDArray[np.float64]) -> str | None:
    """Return the side that the first of some boxes touches and from which the others move away, or None."""
    (left, top, right, bottom), (width, height) = boxes[0], scale
    margins = np.array([left / width, 1 - right / width, top / height, 1 - bottom / height])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
    x, y = ((centres - centres[0]) / np.maximum(sizes, 1e-6)).T
    motion = np.array([x.max(), -x.min(), y.max(), -y.min()])
    motion = np.where(margins <= SIDE_SHARE, motion, 0)
    return SIDES[int(motion.argmax())] if motion.max() >= LEAST_MOTION else None


def _ways(sightings: Sightings) -> Iterator[Sightings]:
    """Yield the sightings of each person in each shot, in order of time."""
    order = np.lexsort((sightings.times_s, sightings.shots, sightings.persons))
    keys = np.stack([sightings.persons[order], sightings.shots[order]])
    borders = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
    for rows in np.split(order, borders) if len(order) else ():
        yield Sightings(*(getattr(sightings, name)[rows] for name in Sightings.__slots__))


def _pieces(follows: NDArray[np.bool_]) -> Iterator[slice]:
    """Yield the parts of a way without a long gap."""
    borders = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(follows) + 1]
    yield from (slice(*ends) for ends in pairwise(borders))


def _anchors(boxes: Points, anchor: str) -> Points:
    x = (boxes[:, 0] + boxes[:, 2]) / 2
    return np.stack([x, boxes[:, 3] if anchor == "bottom" else (boxes[:, 1] + boxes[:, 3]) / 2], axis=1)


def _closed(points: Points) -> Points:
    return np.concatenate([points, points[:1]])


def _right_of(points: Points, start: Points, end: Points, shift: int) -> NDArray[np.bool_]:
    """Return whether points lie to the right of lines, in a picture whose y points down.

    shift: 1 if `points` lie a trifle further right and lower than stated, -1 if the lines do.
    """
    along, to_point = end - start, points - start
    cross = along[..., 0] * to_point[..., 1] - along[..., 1] * to_point[..., 0]
    tie = shift * np.where(along[..., 1] != 0, -along[..., 1], along[..., 0])
    return (cross > 0) | ((cross == 0) & (tie > 0))


def _time_of_step(times_s: NDArray[np.float64], anchors: Points, line: Points, step: int) -> float:
    """Return the time at which a step meets the line, in ms, with even motion between its two anchors."""
    start, end = anchors[step], anchors[step + 1]
    for first, second in pairwise(line):
        if signed_steps(anchors[step : step + 2], np.stack([first, second])).any():
            along = second - first
            before, after = (abs(along[0] * (p - first)[1] - along[1] * (p - first)[0]) for p in (start, end))
            share = before / max(before + after, 1e-12)
            return round(float(times_s[step] + share * (times_s[step + 1] - times_s[step])), 3)
    return round(float(times_s[step + 1]), 3)
