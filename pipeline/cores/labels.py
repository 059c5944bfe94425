"""Find places for the labels of boxes: inside the picture, and over other labels and people as little as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in px."""
Size = tuple[int, int]
"""Width and height in px."""
LABEL_COST = 8
"""A px of another label that is covered counts as much as so many px of another person."""


@dataclass(frozen=True, slots=True)
class PlacedLabel:
    """The form and the place of a label.

    form: index of the form. Later forms are shorter.
    left, top: px.
    """

    form: int
    left: int
    top: int


def place_labels(boxes: Sequence[Rectangle], forms: Sequence[Sequence[Size]], picture: Size) -> list[PlacedLabel]:
    """Return a place for the label of each box, in the order of the boxes.

    The first place is taken where a label covers no other label and no other person: above the box, below it, inside
    at its top, or inside at its bottom; the whole label before shorter forms. If there is none, the place is taken
    where it covers least.

    forms: the sizes of each label, from the whole one to the shortest.
    """
    if not boxes:
        return []
    places = [_places(box, sizes, picture) for box, sizes in zip(boxes, forms, strict=True)]
    rectangles = np.array([[(x, y, x + width, y + height) for _, x, y, width, height in tried] for tried in places])
    people = np.array(boxes)
    covered = _covered(rectangles, people[None, None])
    cost = covered.sum(axis=2) - covered[np.arange(len(boxes)), :, np.arange(len(boxes))]
    placed = []
    for index, tried in enumerate(places):
        best = int(cost[index].argmin())
        placed.append(PlacedLabel(*tried[best][:3]))
        cost += LABEL_COST * _covered(rectangles, rectangles[index, best][None, None, None])[:, :, 0]
    return placed


def _places(box: Rectangle, sizes: Sequence[Size], picture: Size) -> list[tuple[int, int, int, int, int]]:
    """Return the places to try, in order, as (form, left, top, width, height), moved into the picture.

    Every label has the same number of places, so the places that some have no room for are tried twice elsewhere.
    """
    left, top, right, bottom = box
    places = []
    for wanted in range(len(sizes)):
        form = next((other for other in range(wanted, len(sizes)) if sizes[other][0] <= picture[0]), len(sizes) - 1)
        width, height = sizes[form]
        above = top - height if top >= height else top
        below = bottom if bottom + height <= picture[1] else bottom - height
        for y in (above, below, top, bottom - height):
            for x in (left, right - width):
                places.append((form, _inside(x, width, picture[0]), _inside(y, height, picture[1]), width, height))
    return places


def _inside(start: int, length: int, limit: int) -> int:
    """Return the nearest even start at which a length ends within the limit, or 0 for one that is too long."""
    return max(0, min(start, limit - length)) // 2 * 2


def _covered(rectangles: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (N, P, M) px of others, (1, 1, M, 4), that each of (N, P, 4) rectangles covers."""
    low = np.maximum(rectangles[:, :, None, :2], others[..., :2])
    high = np.minimum(rectangles[:, :, None, 2:], others[..., 2:])
    return np.clip(high - low, 0, None).prod(axis=3)
