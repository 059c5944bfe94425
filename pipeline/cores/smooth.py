"""Smooth the boxes of tracks over time, so that a box follows the person rather than the swing of arms and legs.

A detector's box widens and narrows with every step of a walker and jumps where somebody passes in front. The smoothed
size and centre are the value at their own time of a line that is fitted to the boxes of the same track around it,
nearer ones with more weight (locally weighted regression; Cleveland 1979). A line keeps up with steady motion and
growth.

It does not keep up with somebody who jumps. Limbs and errors move one edge of a box at a time, so they change its size
twice as much as its centre. A person who moves moves opposite edges together. The part of the centre's departures from
the line that the departures of the size do not account for is therefore motion, and stays (a local Wiener filter).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

REACH_NS = 500_000_000
"""Boxes this far away no longer count. Both sides together are one second: a full stride of a walker, which averages
the gait."""


def smooth(tracks: NDArray[np.int64], times_ns: NDArray[np.int64], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (N, 4) smoothed boxes of N boxes, in their order.

    The result for a box depends only on the boxes of its track that are less than twice REACH_NS away.

    tracks, times_ns: (N,). A track has one box at a time.
    """
    order = np.lexsort((times_ns, tracks))
    boxes = boxes[order].astype(np.float64)
    raw = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    pairs = list(_pairs(tracks[order], times_ns[order]))
    fitted = _on_lines(raw, pairs)
    departures = (raw - fitted) ** 2
    for here, other, _, shares in pairs:
        departures[here] += shares[:, None] * ((raw - fitted) ** 2)[other]
    by_errors, of_centre = departures[:, 2:] / 4, departures[:, :2]
    share = np.divide(by_errors, of_centre, out=np.ones_like(by_errors), where=of_centre > by_errors)
    centres, sizes = raw[:, :2] + share * (fitted - raw)[:, :2], np.maximum(fitted[:, 2:], 0)
    result = np.empty_like(raw)
    result[order] = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return result


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def _pairs(tracks: NDArray[np.int64], times_ns: NDArray[np.int64]) -> Iterator[_Pairs]:
    """Yield the pairs of a box and a neighbour of its track in four arrays: the box, the neighbour, the time to it in
    units of REACH_NS, and its weight beside the box's own, which is 1. A box is in an array once."""
    for step in range(1, len(tracks)):
        near = np.flatnonzero((tracks[step:] == tracks[:-step]) & (times_ns[step:] - times_ns[:-step] < REACH_NS))
        if not len(near):
            return
        later = near + step
        distances = (times_ns[later] - times_ns[near]) / REACH_NS
        shares = (1 - distances**3) ** 3
        yield near, later, distances, shares
        yield later, near, -distances, shares


def _on_lines(values: NDArray[np.float64], pairs: list[_Pairs]) -> NDArray[np.float64]:
    """Return the (N, D) values at their own times of the lines through their neighbours."""
    weight, first, second = np.ones(len(values)), np.zeros(len(values)), np.zeros(len(values))
    sums, moments = values.copy(), np.zeros_like(values)
    for here, other, distances, shares in pairs:
        weight[here] += shares
        first[here] += shares * distances
        second[here] += shares * distances**2
        sums[here] += shares[:, None] * values[other]
        moments[here] += (shares * distances)[:, None] * values[other]
    spread = weight * second - first**2
    fitted = (second[:, None] * sums - first[:, None] * moments) / np.where(spread > 0, spread, 1)[:, None]
    return np.where((spread > 0)[:, None], fitted, values)
