"""Decide whether the shots on either side of a cut show one place, and whether its people stay where they are.

A still camera makes cuts inside one place when it changes to infrared, when a flash fires, and when the exposure or
the time jumps. Two cameras, or two films, show two places. Frames are compared by their sketches (media.place).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes

GRID = 24
"""Cells of a sketch along each side. Only frames of one video are compared, so their shape does not matter."""
LIGHT_GRID = 8
SIZE = 2 * GRID**2 + 2 * LIGHT_GRID**2
"""Bytes of a sketch. First come int8 cosine and sine of twice the edges' angle in each cell, scaled by the agreement
of its edges. Then come uint8 mean saturation and lightness of the cells of the coarser grid."""
SHIFTS = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
"""The shifts, in cells, that a camera may have made."""
SAME_PLACE = 0.55
"""Least correlation of the edges of two frames that show one place. Frames of two clips reach .48, with equal bars
at the sides. A still camera has .66 or more a second later (docs/decisions/0014-one-place.md)."""
NOBODY_MOVED = 0.7
"""Least correlation in the cells of people if nobody moved. Frames an eighth of a second apart mostly have .8, even
with walkers. A second apart, people who move have half of it."""
MIN_CELLS = 4
"""Least number of cells of people for that decision."""
GREY = 5.0
"""Greatest saturation, of 255, of three quarters of a picture without colours. Infrared has 0 to 1, and the palest of
13 clips has 32. For a few frames after a switch, compression leaves colours in the other quarter."""
LIVELY, FADE_S = 3.0, 1.0
"""Least change of the mean saturation or lightness, of 255, between two analysed frames while the light changes, and
the longest time that this may take."""
RELIT = 20.0
"""Least median change of saturation or lightness, of 255, at which the appearance of bodies cannot be compared."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """For each of S shots, or parts of shots, which place it shows, and in which light.

    places: (S,) int64. Neighbouring shots with the same number show one place.
    lights: (S,) int64. The number rises at a cut inside one place where bodies cannot be compared.
    moments: (S,) int64. The number rises at a cut inside one place where people moved, so that time has passed.
    is_grey: (S,) bool. Whether the picture has no colours, as in infrared.
    opens, settles: (S - 1,) int64 or None. Frames: who begins after `opens` is in the next part, and who ends at or
        after `settles`. They differ where the light changes in several frames. None: every shot is one part.
    """

    places: NDArray[np.int64]
    lights: NDArray[np.int64]
    moments: NDArray[np.int64]
    is_grey: NDArray[np.bool_]
    opens: NDArray[np.int64] | None = None
    settles: NDArray[np.int64] | None = None

    def parts(self, spans: NDArray[np.int64], shots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (N, 2) in which part each tracklet begins and ends.

        spans: (N, 2) half-open ranges of frames.
        shots: (N, 2) the shots in which they begin and end.
        """
        if self.opens is None or self.settles is None:
            return shots
        begins = np.searchsorted(self.opens, spans[:, 0])
        ends = np.searchsorted(self.settles, spans[:, 1] - 1, side="right")
        return np.stack([begins, np.maximum(begins, ends)], axis=1)

    @classmethod
    def of(
        cls,
        seams: Sequence["Seam"],
        is_grey: Sequence[bool] | None = None,
        borders: Sequence[tuple[int, int]] | None = None,
    ) -> "Scenes":
        """Return the scenes from the border after each part but the last.

        is_grey: S values, by default False.
        borders: S - 1 pairs of `opens` and `settles`.
        """
        changes = [[not seam.is_one_place, seam.hides_looks, seam.is_jump] for seam in seams]
        numbers = np.cumsum(np.array([[0, 0, 0], *changes], np.int64), axis=0)
        greys = np.zeros(len(numbers), np.bool_) if is_grey is None else np.array(is_grey, np.bool_)
        places, lights, moments = numbers.T
        sides = (None, None) if borders is None else np.array(borders, np.int64).reshape(-1, 2).T
        return cls(places, lights, moments, greys, *sides)


@dataclass(frozen=True, slots=True)
class Seam:
    """A cut between two shots.

    is_one_place: whether both sides show one place.
    hides_looks: whether bodies cannot be compared: the light changed and nobody moved, or colours came or went.
    is_jump: whether people moved, so that time has passed.
    """

    is_one_place: bool = False
    hides_looks: bool = False
    is_jump: bool = False


def closest(before: Sequence[bytes], after: Sequence[bytes]) -> tuple[int, int]:
    """Return the indices of the most similar sketches before and after a cut. Of equals, those next to the cut are
    chosen."""
    pairs = [(i, j) for j in range(len(after)) for i in reversed(range(len(before)))]
    return max(pairs, key=lambda pair: round(similarity(before[pair[0]], after[pair[1]]), 3))


def seam(before: bytes, after: bytes, people: NDArray[np.bool_]) -> Seam:
    """Compare the sketches before and after a cut. people: (GRID, GRID) bool, from `cells`."""
    if round(similarity(before, after), 3) < SAME_PLACE:
        return Seam()
    if people.sum() < MIN_CELLS:
        return Seam(is_one_place=True)
    is_jump = round(_correlation(*_at(people, before, after)), 3) < NOBODY_MOVED
    hides_looks = is_grey(before) != is_grey(after) if is_jump else _is_relit(before, after)
    return Seam(is_one_place=True, hides_looks=hides_looks, is_jump=is_jump)


def light_of(sketch: bytes | None) -> tuple[float, float]:
    """Return the mean saturation and lightness of a picture, 0..255. nan without a sketch."""
    if sketch is None:
        return float("nan"), float("nan")
    saturation, lightness = _light(sketch).mean(axis=1).round(2).tolist()
    return saturation, lightness


def fades(times_ns: NDArray[np.int64], light: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the indices of the last frame before each quick change of light and the first one after it.

    times_ns: (A,) of the analysed frames of a shot.
    light: (A, 2) their mean saturation and lightness. A camera that turns changes them for longer.
    """
    found = set()
    for kind in np.abs(np.diff(light, axis=0)).T:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], kind >= LIVELY, [False]]).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            if kind[first:last].sum() >= RELIT and times_ns[last] - times_ns[first] <= FADE_S * 1e9:
                found.add((first, last))
    fades = sorted(found)
    return [fade for place, fade in enumerate(fades) if place == 0 or fade[0] >= fades[place - 1][1]]


def is_grey(sketch: bytes) -> bool:
    """Return whether a picture has no colours, as in infrared."""
    return bool(np.quantile(_light(sketch)[0], 0.75) <= GREY)


def cells(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """Return (GRID, GRID) bool: the cells of a picture that (N, 4) boxes touch."""
    touched = np.zeros((GRID, GRID), np.bool_)
    for left, top, right, bottom in (boxes / np.array([width, height] * 2) * GRID).tolist():
        touched[int(max(top, 0)) : int(np.ceil(bottom)), int(max(left, 0)) : int(np.ceil(right))] = True
    return touched


def similarity(sketch: bytes, other: bytes) -> float:
    """Return the correlation of the edges of two sketches, -1 to 1, at the best of SHIFTS. 0 if one shows no edges."""
    a, b = _edges(sketch), _edges(other)
    return max(_correlation(_shifted(a, x, y), _shifted(b, -x, -y)) for x, y in SHIFTS)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    energy = float((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / energy**0.5) if energy else 0.0


def _at(places: NDArray[np.bool_], *sketches: bytes) -> list[NDArray[np.float64]]:
    return [_edges(sketch)[:, places] for sketch in sketches]


def _edges(sketch: bytes) -> NDArray[np.float64]:
    """Return the edges of a sketch, (2, GRID, GRID), -1 to 1."""
    return np.frombuffer(sketch, np.int8, 2 * GRID**2).reshape(2, GRID, GRID) / 127.0


def _light(sketch: bytes) -> NDArray[np.float64]:
    """Return saturation and lightness of a sketch, (2, LIGHT_GRID ** 2)."""
    return np.frombuffer(sketch, np.uint8, 2 * LIGHT_GRID**2, 2 * GRID**2).reshape(2, -1).astype(np.float64)


def _is_relit(sketch: bytes, other: bytes) -> bool:
    return bool((np.median(np.abs(_light(sketch) - _light(other)), axis=1) >= RELIT).any())


def _shifted(edges: NDArray[np.float64], x: int, y: int) -> NDArray[np.float64]:
    """Return a grid without its first x columns and y rows, or its last ones if these are negative."""
    columns = slice(max(x, 0), GRID + min(x, 0))
    rows = slice(max(y, 0), GRID + min(y, 0))
    return edges[:, rows, columns]
