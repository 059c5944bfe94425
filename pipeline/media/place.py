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
    x, y = (cv2.Sobel(lightness, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    if _has_bars(lightness):
        _blacken_bars(lightness, x, y)
    strength = cv2.magnitude(x, y)
    safe = np.maximum(strength, np.float32(1e-6))
    # Twice the angle, so that an edge and its negative point the same way.
    along, across = cv2.subtract(cv2.multiply(x, x), cv2.multiply(y, y)), cv2.multiply(x, y, scale=2)
    directed = cv2.merge([cv2.divide(along, safe), cv2.divide(across, safe), strength])
    mean_along, mean_across, mean_strength = cv2.split(_shrunk(directed, GRID))
    weight = mean_strength + FLOOR * np.mean(mean_strength) + 1e-3
    edges = [np.rint(mean / weight * 127).astype(np.int8).tobytes() for mean in (mean_along, mean_across)]
    light = [_shrunk(plane, LIGHT_GRID).tobytes() for plane in (saturation, lightness)]
    description = b"".join([*edges, *light])
    assert len(description) == SIZE
    return description


def _has_bars(lightness: MatLike) -> bool:
    """Return whether there may be bars around the film in a picture. Most have none, and show it in their first and
    last lines."""
    flat = FLAT * _range(lightness)
    lines = (lightness[:1], lightness[-1:], lightness[:, :1], lightness[:, -1:])
    return any(_range(line) <= flat for line in lines)


def _range(pixels: MatLike) -> float:
    least, greatest, _, _ = cv2.minMaxLoc(pixels)
    return greatest - least


def _blacken_bars(lightness: MatLike, *edges: MatLike) -> None:
    """Set the edges in the bars around a film, and between bar and film, to 0, along both sides of the picture."""
    flat = FLAT * float(np.ptp(lightness))
    for axis in (0, 1):
        lively = np.flatnonzero(np.ptp(lightness, axis=1 - axis) > flat)
        length = lightness.shape[axis]
        first, last = (int(lively[0]), int(lively[-1])) if len(lively) else (0, length - 1)
        for plane in edges:
            lines = plane if axis == 0 else plane.T
            if first > 0:
                lines[: first + BAR_EDGE_PX] = 0
            if last < length - 1:
                lines[max(0, last + 1 - BAR_EDGE_PX) :] = 0


def _shrunk(plane: MatLike, side: int) -> MatLike:
    """Return the means of the parts of a plane, `side` on each side, rounded if the plane has whole numbers."""
    return cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
