"""Measure the gaps between tracklets: the motion over each gap, and the change of size."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.times import as_microseconds
from pipeline.cores.link.tracklets import Tracklet

MOTION_S = 1.0
"""Seconds at either end of a tracklet from which its motion and height are measured: a full step of a walker, which
averages the gait."""
MOTION_MEMORY_S = 4.0
"""Time constant, in seconds, with which a predicted path comes to rest exponentially, because people turn and stop."""
STILL = 0.15
"""Greatest speed of the head, in body heights per second, of somebody who keeps still. Walkers have .3 and more."""
PERSPECTIVE_TRACKLETS = 10
"""The number of tracklets as which the assumption counts that a person has one height everywhere in the picture."""
PAIRS_AT_ONCE = 1_000_000
"""The number of gaps that are measured at a time. It bounds the memory."""


def best_gaps(
    a: NDArray[np.int64], b: NDArray[np.int64], gap_s: NDArray[np.float64], motion: NDArray[np.float64], candidates: int
) -> NDArray[np.int64]:
    """Return the positions of the best successors of each `a`: fewer than `candidates` others are better and no
    later.

    Less motion is better, and a longer gap excuses more of it. Of equals, the one that appeared first is better. No
    pair is displaced by a later one, so a shorter limit of the gap leaves exactly the pairs within it.
    """
    worth = motion / (1 + gap_s)
    order = np.lexsort((b, worth, gap_s, a))
    num_sooner = np.arange(len(order)) - np.searchsorted(a[order], a[order])
    chosen = num_sooner < candidates
    borders = np.append(np.flatnonzero(num_sooner == 0), len(order))
    for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        if end - start > candidates:
            chosen[start:end] = _is_among_best(worth[order[start:end]], b[order[start:end]], candidates)
    return order[chosen]


def _is_among_best(worths: NDArray[np.float64], names: NDArray[np.int64], candidates: int) -> list[bool]:
    """Return for each pair, in order of arrival, whether it is among the `candidates` smallest so far."""
    least: list[tuple[float, int]] = []
    verdicts = []
    for pair in zip(worths.tolist(), names.tolist(), strict=True):
        place = bisect(least, pair)
        verdicts.append(place < candidates)
        if verdicts[-1]:
            least.insert(place, pair)
            del least[candidates:]
    return verdicts


def measure_gaps(
    tracklets: Sequence[Tracklet],
    places: NDArray[np.int64],
    moments: NDArray[np.int64],
    first_us: NDArray[np.int64],
    last_us: NDArray[np.int64],
    params: IdentityParams,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the best pairs (a, b) of each a where b begins in the place in which a ends, at most max_gap_s later.

    places: (N, 2). The places in which each begins and ends.
    moments: (N, 2). Between two moments time has jumped, and only those who keep still on either side are measured.

    The result also holds motion and size, rounded to 0.001.
    """
    heads = _Ends.of(
        [(tracklet.head_ns, tracklet.head_boxes, 0) for tracklet in tracklets],
        [tracklet.cut_off[0] for tracklet in tracklets],
    )
    tails = _Ends.of(
        [(tracklet.tail_ns, tracklet.tail_boxes, -1) for tracklet in tracklets],
        [tracklet.cut_off[1] for tracklet in tracklets],
    )
    log_heights = np.stack(_level_heights((heads, tails), places.T))
    columns: list[tuple[NDArray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    max_gap_us = as_microseconds(params.max_gap_s)
    keeps_still = [np.linalg.norm(end.velocities, axis=1) <= STILL * end.heights for end in (heads, tails)]
    for before, after in _successions(places[:, 0], places[:, 1], first_us, last_us, max_gap_us):
        comparable = (moments[before, 1] == moments[after, 0]) | (keeps_still[1][before] & keeps_still[0][after])
        a, b = before[comparable], after[comparable]
        is_jump = moments[a, 1] != moments[b, 0]
        gap_s = np.round((first_us[b] - last_us[a]) / 1e6, 6)
        reach_s = (MOTION_MEMORY_S * (1 - np.exp(-gap_s / MOTION_MEMORY_S)))[:, None]
        step = heads.places[b] - tails.places[a]
        forward = np.linalg.norm(step - tails.velocities[a] * reach_s, axis=1)
        backward = np.linalg.norm(step - heads.velocities[b] * reach_s, axis=1)
        heights = np.stack([tails.heights[a], heads.heights[b]])
        forward, backward = (np.where(is_jump, np.linalg.norm(step, axis=1), way) for way in (forward, backward))
        motion = np.round((forward + backward) / heights.sum(axis=0), 3)
        log_size = log_heights[0, b] - log_heights[1, a]
        log_tallest_size = log_size + heads.log_excesses[b] - tails.log_excesses[a]
        # Whom the edge of the picture cuts off is as tall as the box or taller.
        log_size, log_tallest_size = (
            np.where(tails.cut_off[a] & (way > 0) | heads.cut_off[b] & (way < 0), 0.0, way)
            for way in (log_size, log_tallest_size)
        )
        # What hides somebody only makes boxes smaller, so the ratio that needs less of an explanation counts.
        size = np.round(np.exp(np.minimum(np.abs(log_size), np.abs(log_tallest_size))), 3)
        best = best_gaps(a, b, gap_s, motion, params.candidates)
        columns.append((a[best], b[best], motion[best], size[best]))
    a, b, motion, size = (np.concatenate(column) for column in zip(*columns, strict=True))
    return a, b, motion, size


def _level_heights(ends: Sequence["_Ends"], places: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return the logarithms of the heights at each kind of end, freed from perspective.

    places: (kinds of ends, N). The place of each end.

    People look taller where they are nearer to the camera, and on level ground that shows in the row of the picture in
    which their heads are. The slope of the log heights over that row is a least-squares fit for each place, shrunk
    towards 0 as if by PERSPECTIVE_TRACKLETS. The row of the feet would show it better, but feet are hidden more often.
    """
    level = [np.log(end.heights) for end in ends]
    rows = [end.places[:, 1] for end in ends]
    for place in np.unique(places):
        here = [numbers == place for numbers in places]
        x = np.concatenate([row[chosen] for row, chosen in zip(rows, here, strict=True)])
        y = np.concatenate([heights[chosen] for heights, chosen in zip(level, here, strict=True)])
        deviations = x - x.mean()
        spread = float((deviations**2).sum())
        if not spread:
            continue
        shrinkage = len(x) / (len(x) + 2 * PERSPECTIVE_TRACKLETS)
        slope = round(shrinkage * float((deviations * (y - y.mean())).sum()) / spread, 9)
        for heights, row, chosen in zip(level, rows, here, strict=True):
            heights[chosen] -= slope * row[chosen]
    return level


def _successions(
    begins_in: NDArray[np.int64],
    ends_in: NDArray[np.int64],
    first_us: NDArray[np.int64],
    last_us: NDArray[np.int64],
    max_gap_us: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs (a, b) with 0 < first_us[b] - last_us[a] <= max_gap_us where b begins in the shot in which a
    ends.

    Each block holds some values of a, rising within a shot.
    """
    for shot in np.unique(ends_in):
        before, after = np.flatnonzero(ends_in == shot), np.flatnonzero(begins_in == shot)
        starts = np.argsort(first_us[after], kind="stable")
        begun_us = first_us[after][starts]
        low = np.searchsorted(begun_us, last_us[before], side="right")
        counts = np.searchsorted(begun_us, last_us[before] + max_gap_us, side="right") - low
        blocks = np.cumsum(counts) // PAIRS_AT_ONCE
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            a = np.repeat(here, counts[here])
            offset = np.arange(len(a)) - np.repeat(np.cumsum(counts[here]) - counts[here], counts[here])
            yield before[a], after[starts[low[a] + offset]]


@dataclass(frozen=True, slots=True)
class _Ends:
    """One end of each tracklet.

    places: (N, 2) px.
    velocities: (N, 2) px/s.
    heights: (N,) px. The median within MOTION_S.
    log_excesses: (N,) logarithm of the tallest box of the whole end over `heights`.
    cut_off: (N,) bool. See Tracklet.
    """

    places: NDArray[np.float64]
    velocities: NDArray[np.float64]
    heights: NDArray[np.float64]
    log_excesses: NDArray[np.float64]
    cut_off: NDArray[np.bool_]

    @classmethod
    def of(cls, ends: Sequence[tuple[NDArray[np.int64], NDArray[np.float32], int]], cut_off: Sequence[bool]) -> Self:
        """Return the ends from (times_ns, boxes, index of the outermost box) of each tracklet."""
        tallest = np.array([max(float((boxes[:, 3] - boxes[:, 1]).max()), 1.0) for _, boxes, _ in ends])
        ends = [_outermost(*end) for end in ends]
        motions = [_motion(times_ns, boxes.astype(np.float64), outermost) for times_ns, boxes, outermost in ends]
        places, velocities = zip(*motions, strict=True) if motions else ((), ())
        shape = (len(motions), 2)
        sides = [np.maximum(boxes[:, 3] - boxes[:, 1], 1).astype(np.float64) for _, boxes, _ in ends]
        heights = np.array([np.median(side) for side in sides], np.float64)
        excesses = np.log(tallest / heights)
        return cls(
            np.reshape(places, shape), np.reshape(velocities, shape), heights, excesses, np.array(cut_off, np.bool_)
        )


def _outermost(
    times_ns: NDArray[np.int64], boxes: NDArray[np.float32], outermost: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Return the part of an end that is at most MOTION_S away from its outermost time."""
    near = np.abs(times_ns - times_ns[outermost]) <= MOTION_S * 1e9
    return times_ns[near], boxes[near], outermost


def _motion(
    times_ns: NDArray[np.int64], boxes: NDArray[np.float64], outermost: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the place and velocity of the box's upper edge at the outermost time.

    The upper edge stays where it is when something hides the legs. These are medians (the Theil-Sen line), so that a
    few boxes that shrink before an occlusion do not turn the path.
    """
    tops = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1]], axis=1)
    seconds = (times_ns - times_ns[outermost]) / 1e9
    later, earlier = np.tril_indices(len(seconds), -1)
    if len(later) == 0:
        return tops[0], np.zeros(2)
    slopes = (tops[later] - tops[earlier]) / (seconds[later] - seconds[earlier])[:, None]
    velocity = np.median(slopes, axis=0)
    return np.median(tops - velocity * seconds[:, None], axis=0), velocity
