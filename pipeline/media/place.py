"""Sketch the place that a thumbnail shows, so that two frames can be compared long after the pictures are gone.

A sketch holds the direction of the edges in each cell of a grid, and the brightness and colourfulness in each cell
of a coarser grid. A direction has no sign and no strength: infrared, exposure and a flash change brightness and
colour, and may turn bright edges into dark ones, but edges stay where they are. A sketch depends on its own frame
alone. cores.place compares sketches.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from pipeline.cores.place import GRID, LIGHT_GRID, SIZE

FLOOR = 0.5
"""Share of the mean strength of edges. Weaker edges are noise. In a dark picture all edges are weak, so the limit is
relative."""

FLAT = 0.05
"""Share of the range of the whole picture. A line of pixels at the border with a smaller range belongs to a bar
beside the film."""
BAR_EDGE_PX = 3
"""Number of lines between a bar and the film that are left out, because the edge there is no part of the place."""


def sketch(planes: Sequence[MatLike]) -> bytes:
    """Return the sketch of one thumbnail, from its (h, w) uint8 planes of hue, saturation and lightness, as
    displayed."""
    _, saturation, lightness = planes
    inner = np.zeros(lightness.shape, np.float32)
    inner[_without_bars(lightness)] = 1
    x, y = (np.asarray(cv2.Sobel(lightness, cv2.CV_32F, *order)) * inner for order in ((1, 0), (0, 1)))
    strength = cv2.magnitude(x, y)
    safe = np.maximum(strength, 1e-6)
    # Twice the angle, so that an edge and its negative point the same way.
    directions = ((x * x - y * y) / safe, 2 * x * y / safe)
    means = [_shrunk(plane, GRID) for plane in (*directions, strength)]
    weight = means[2] + FLOOR * means[2].mean() + 1e-3
    edges = np.stack(means[:2]) / weight
    light = np.stack([_shrunk(plane, LIGHT_GRID) for plane in (saturation, lightness)])
    description = (
        np.rint(127 * np.clip(edges, -1, 1)).astype(np.int8).tobytes() + np.rint(light).astype(np.uint8).tobytes()
    )
    assert len(description) == SIZE
    return description


def _without_bars(lightness: MatLike) -> tuple[slice, slice]:
    """Return the rows and columns of the film in a picture that may have bars around it."""
    inside = []
    flat = FLAT * float(np.ptp(np.asarray(lightness)))
    for axis in (1, 0):
        lively = np.flatnonzero(np.ptp(np.asarray(lightness), axis=axis) > flat)
        length = lightness.shape[1 - axis]
        first, last = (int(lively[0]), int(lively[-1])) if len(lively) else (0, length - 1)
        start = first + BAR_EDGE_PX if first > 0 else 0
        inside.append(slice(start, last + 1 - BAR_EDGE_PX if last < length - 1 else length))
    return inside[0], inside[1]


def _shrunk(plane: MatLike, side: int) -> NDArray[np.float32]:
    """Return the (side, side) float32 means of the parts of a plane."""
    shrunk = cv2.resize(np.asarray(plane, np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32)
