"""Find places for the labels of boxes: inside the picture, and over one another as little as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in px."""
Size = tuple[int, int]
"""Width and height in px."""


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

    The first label that fits is taken: above the box, inside at its top, below it, or inside at its bottom; the whole
    label before shorter forms. If none is free, the shortest is placed where it covers least of the others.

    forms: the sizes of each label, from the whole one to the shortest.
    """
    taken: list[Rectangle] = []
    placed = []
    for box, sizes in zip(boxes, forms, strict=True):
        best: tuple[int, PlacedLabel, Rectangle] | None = None
        for form, size in enumerate(sizes):
            if size[0] > picture[0] and form < len(sizes) - 1:
                continue
            for left, top in _places(box, size, picture):
                rectangle = (left, top, left + size[0], top + size[1])
                covered = sum(_overlap(rectangle, other) for other in taken)
                if best is None or covered < best[0]:
                    best = covered, PlacedLabel(form, left, top), rectangle
                if covered == 0:
                    break
            if best is not None and best[0] == 0:
                break
        assert best is not None
        placed.append(best[1])
        taken.append(best[2])
    return placed


def _places(box: Rectangle, size: Size, picture: Size) -> list[tuple[int, int]]:
    """Return the places to try, in order, moved into the picture."""
    left, top, right, bottom = box
    width, height = size
    tops = [top - height, top, bottom, bottom - height] if top >= height else [top, bottom, bottom - height]
    places = [(x, y) for y in tops for x in (left, right - width)]
    return [(_inside(x, width, picture[0]), _inside(y, height, picture[1])) for x, y in places]


def _inside(start: int, length: int, limit: int) -> int:
    """Return the nearest even start at which a length ends within the limit, or 0 for one that is too long."""
    return max(0, min(start, limit - length)) // 2 * 2


def _overlap(a: Rectangle, b: Rectangle) -> int:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down)
