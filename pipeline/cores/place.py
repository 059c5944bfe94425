"""Whether the shots on either side of a cut show one place, and whether its people stay where they are.

A camera that goes over to infrared, a flash, a jump of the exposure and a jump in time by a camera that stands still
make cuts in one place. Two cameras, or two films, show two places. Frames are compared by their sketches (media.place).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes

GRID = 24
"""Cells of a sketch along each side. Only frames of one video are compared, so that its shape does not matter."""
LIGHT_GRID = 8
SIZE = 2 * GRID**2 + 2 * LIGHT_GRID**2
"""Bytes of a sketch: int8 cosine and sine of twice the edges' angle in each cell, times how much its edges agree; then
uint8 mean saturation and lightness of the cells of the coarser grid."""
SHIFTS = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
"""Cells by which a camera may have moved."""
SAME_PLACE = 0.55
"""Correlation of edges from which on two frames show one place. Frames of two clips reach .48, with equal bars beside
them; a camera that stands still has .66 or more a second later (docs/decisions/0014-one-place.md)."""
NOBODY_MOVED = 0.7
"""Likewise where the people are. An eighth of a second apart most have .8, walkers too; a second apart, half of it."""
MIN_CELLS = 4
"""Fewer cells of people say nothing."""
RELIT = 20.0
"""Median change of saturation or lightness, of 255, from which on bodies cannot be compared by their looks."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """What the cuts between S shots are worth to the linker.

    places: (S,) int64. Neighbouring shots of one number show one place.
    lights: (S,) int64. Shots of one place and another number show it in another light, and nobody moved in between.
    """

    places: NDArray[np.int64]
    lights: NDArray[np.int64]

    @classmethod
    def of(cls, seams: Sequence["Seam"]) -> "Scenes":
        """From the cut after each shot but the last."""
        changes = np.array([[not seam.is_one_place, seam.hides_looks] for seam in seams], np.int64).reshape(-1, 2)
        places, lights = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(changes, axis=0)]).T
        return cls(places, lights)


@dataclass(frozen=True, slots=True)
class Seam:
    """A cut. is_one_place: both sides show one place. hides_looks: in another light, and nobody moved in between."""

    is_one_place: bool = False
    hides_looks: bool = False


def closest(before: Sequence[bytes], after: Sequence[bytes]) -> tuple[int, int]:
    """The most alike sketches before and after a cut; of equally alike ones those next to it."""
    pairs = [(i, j) for j in range(len(after)) for i in reversed(range(len(before)))]
    return max(pairs, key=lambda pair: round(similarity(before[pair[0]], after[pair[1]]), 3))


def seam(before: bytes, after: bytes, people: NDArray[np.bool_]) -> Seam:
    """What the cut between two sketches is. people: (GRID, GRID) the cells where somebody is, of `cells`."""
    if round(similarity(before, after), 3) < SAME_PLACE:
        return Seam()
    stays = people.sum() >= MIN_CELLS and round(_correlation(*_at(people, before, after)), 3) >= NOBODY_MOVED
    return Seam(is_one_place=True, hides_looks=bool(stays and _is_relit(before, after)))


def cells(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """(GRID, GRID) the cells of a picture that (N, 4) boxes touch."""
    found = np.zeros((GRID, GRID), np.bool_)
    for left, top, right, bottom in (boxes / np.array([width, height] * 2) * GRID).tolist():
        found[int(max(top, 0)) : int(np.ceil(bottom)), int(max(left, 0)) : int(np.ceil(right))] = True
    return found


def similarity(one: bytes, other: bytes) -> float:
    """Correlation of the edges of two sketches, -1 to 1, at the best of SHIFTS; 0 where one shows none."""
    a, b = _edges(one), _edges(other)
    return max(_correlation(_shifted(a, x, y), _shifted(b, -x, -y)) for x, y in SHIFTS)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    energy = float((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / energy**0.5) if energy else 0.0


def _at(places: NDArray[np.bool_], *sketches: bytes) -> list[NDArray[np.float64]]:
    return [_edges(sketch)[:, places] for sketch in sketches]


def _edges(sketch: bytes) -> NDArray[np.float64]:
    """(2, GRID, GRID), -1 to 1."""
    return np.frombuffer(sketch, np.int8, 2 * GRID**2).reshape(2, GRID, GRID) / 127.0


def _light(sketch: bytes) -> NDArray[np.float64]:
    """(2, LIGHT_GRID ** 2) saturation and lightness."""
    return np.frombuffer(sketch, np.uint8, 2 * LIGHT_GRID**2, 2 * GRID**2).reshape(2, -1).astype(np.float64)


def _is_relit(one: bytes, other: bytes) -> bool:
    return bool((np.median(np.abs(_light(one) - _light(other)), axis=1) >= RELIT).any())


def _shifted(edges: NDArray[np.float64], x: int, y: int) -> NDArray[np.float64]:
    """What is left of a grid without its first x columns and y rows, or, where these are negative, its last ones."""
    columns = slice(max(x, 0), GRID + min(x, 0))
    rows = slice(max(y, 0), GRID + min(y, 0))
    return edges[:, rows, columns]
