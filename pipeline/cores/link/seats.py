"""Say how much it means that somebody keeps still where somebody kept still before a jump in time.

A camera that stands still shows one place before and after the jump, and nobody knows how much time has passed. Most
people who sit or stand still are in their place 20 s later (STAYS, SPREAD). But others take the same chair, or step up
to the same counter, so one place proves little. If several people are in their places again, hardly any time has
passed: others would rarely take all of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.link.pairs import SEAT, Links

STAYS, SPREAD = 0.8, 0.1
"""The chance that somebody who keeps still is in the same place after a jump of 1 to 20 s, and the standard deviation
of the place of the head, in body heights, along each axis (decision 36)."""
TAKEN = 0.13
"""The chance that somebody else keeps still in the place of a given person. It is an assumption: beside them, 0 of 700
people do within a tenth of their height, but at a counter everybody does. It bounds what one place means."""
AREA = 10.0
"""The area, in square body heights, over which all others are spread. Within a fifth of their height, 1 % of the people
beside somebody were measured, which is what this area gives."""
NEAR = 1.0
"""The distance, in body heights, within which others are counted for the density of a crowd."""
COMPANY = 2.0
"""The most, in nats, that the places of others add or take away. With 3, two more of 91 joins are wrong."""


def seat_ratios(links: Links, shots: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (L,) log-likelihood ratios of one person to two, from where people keep still. 0 for other kinds of pairs.

    To those who are in a place again, the places of the others at the same cut are added: the nearest pairs, and
    against them those who are in no place again.
    """
    result = np.zeros(len(links))
    rows = np.flatnonzero(links.kind == SEAT)
    if not len(rows):
        return result
    a, b, away = links.a[rows], links.b[rows], links.motion[rows]
    cuts = np.unique(np.stack([shots[a], shots[b]]), axis=1, return_inverse=True)[1].ravel()
    sides = [np.unique(np.stack([ends, cuts]), axis=1, return_inverse=True)[1].ravel() for ends in (a, b)]
    # In a crowd somebody else is near more often.
    num_near = [np.bincount(side, away < NEAR)[side] - (away < NEAR) for side in sides]
    elsewhere = 1 / AREA + np.maximum(*num_near) / (np.pi * NEAR**2)
    here = np.exp(-(away**2) / (2 * SPREAD**2)) / (2 * np.pi * SPREAD**2)
    alone = np.log(STAYS * here + (1 - STAYS) * elsewhere) - np.log(TAKEN * here + (1 - TAKEN) * elsewhere)

    is_nearest = _is_greatest(alone, sides[0], b) & _is_greatest(alone, sides[1], a)
    counted = np.where(is_nearest, alone, 0.0)
    company = np.bincount(cuts, counted)[cuts] + _gone(cuts, sides, is_nearest)[cuts] - counted
    for side in sides:
        company -= np.where(is_nearest, 0.0, np.bincount(side, counted)[side])
    result[rows] = np.round(alone + np.where(alone > 0, np.clip(company, -COMPANY, COMPANY), 0.0), 3)
    return result


def _gone(
    cuts: NDArray[np.int64], sides: Sequence[NDArray[np.int64]], is_nearest: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return for each cut what those add who are in no place again, on either side of it."""
    total = np.zeros(int(cuts.max()) + 1)
    for side in sides:
        _, firsts = np.unique(side, return_index=True)
        is_gone = np.bincount(side, is_nearest) == 0
        total += np.bincount(cuts[firsts], is_gone, minlength=len(total))
    return total / 2 * np.log((1 - STAYS) / (1 - TAKEN))


def _is_greatest(worths: NDArray[np.float64], keys: NDArray[np.int64], ties: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (P,) bool: whether a pair has the greatest worth of its key. Of equals, the least tie counts."""
    order = np.lexsort((ties, -worths, keys))
    is_greatest = np.zeros(len(worths), np.bool_)
    is_greatest[order[np.unique(keys[order], return_index=True)[1]]] = True
    return is_greatest
