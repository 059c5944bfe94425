"""Draw people into pictures and video frames."""

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.arrays import Picture
from pipeline.cores.labels import Rectangle, place_labels
from pipeline.media.canvas import Canvas, Colour, Plane

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""RGB, in turn by ID. People with any colour vision can tell them apart (Okabe and Ito, 2008, without black)."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
LEAST_FONT_PX = 12
PX_PER_FONT_PX, PX_PER_LINE_PX = 60, 480
"""px of the picture's longer side for each px of the letters' height and of a line's width."""
WIDE_PX, EDGE_PX = 6, 2
MOST_LABELS = 10_000
"""Drawn labels that are kept for the next frames."""


def colour_of(person_id: int) -> Colour:
    """Return the colour of a person, the same in every frame."""
    return COLOURS[(person_id - 1) % len(COLOURS)]


class PeoplePainter:
    """Draws boxes with labels. Letters and lines follow the size of the picture.

    labels: for each ID, its label and shorter forms of it, which are used where there is no room.
    """

    def __init__(self, labels: Mapping[int, Sequence[str]]) -> None:
        self._labels = labels
        self._patches: dict[tuple[str, Colour, int], tuple[Plane, ...]] = {}

    def draw(self, canvas: Canvas, boxes: NDArray[np.floating], ids: Sequence[int]) -> None:
        """Draw (N, 4) xyxy boxes in px, in the colours of their IDs, and then all labels over them."""
        line_px = _even(max(canvas.width, canvas.height) / PX_PER_LINE_PX)
        corners = [_on_grid(box, canvas) for box in boxes.tolist()]
        for corner, number in zip(corners, ids, strict=True):
            _frame(canvas, corner, line_px, colour_of(number))
        forms = [self._labels[number] for number in ids]
        sizes = [[_size(text, _font_px(canvas)) for text in texts] for texts in forms]
        for place, texts, number in zip(
            place_labels(corners, sizes, (canvas.width, canvas.height)), forms, ids, strict=True
        ):
            patch = self._patch(canvas, texts[place.form], colour_of(number))
            canvas.paste(place.left, place.top, patch)

    def write(self, canvas: Canvas, text: str) -> None:
        """Write a line of text into the lower left corner."""
        _, height = _size(text, _font_px(canvas))
        canvas.paste(0, max(0, canvas.height - height) // 2 * 2, canvas.patch(_label(text, BLACK, _font_px(canvas))))

    def _patch(self, canvas: Canvas, text: str, colour: Colour) -> tuple[Plane, ...]:
        key = text, colour, _font_px(canvas)
        if key not in self._patches:
            if len(self._patches) >= MOST_LABELS:
                self._patches.clear()
            self._patches[key] = canvas.patch(_label(*key))
        return self._patches[key]


def outline(canvas: Canvas, boxes: NDArray[np.floating], colour: Colour) -> None:
    """Draw (N, 4) xyxy boxes in px, in one colour."""
    line_px = _even(max(canvas.width, canvas.height) / PX_PER_LINE_PX)
    for box in boxes.tolist():
        _frame(canvas, _on_grid(box, canvas), line_px, colour)


def draw_people(picture: Picture, boxes: NDArray[np.floating], ids: Sequence[int], labels: Sequence[str]) -> Picture:
    """Return a copy of `picture` with (N, 4) xyxy `boxes` in px, in the colours of their IDs, with labels."""
    drawn = picture.copy()
    PeoplePainter({number: [label] for number, label in zip(ids, labels, strict=True)}).draw(
        Canvas.of_picture(drawn), boxes, ids
    )
    return drawn


def _frame(canvas: Canvas, corner: Rectangle, line_px: int, colour: Colour) -> None:
    """Draw the lines of a box. Wide lines get a dark edge, so that they stand out before any colour."""
    if line_px >= WIDE_PX:
        _lines(canvas, corner, line_px + EDGE_PX, BLACK)
    _lines(canvas, corner, line_px, colour)


def _lines(canvas: Canvas, corner: Rectangle, line_px: int, colour: Colour) -> None:
    left, top, right, bottom = corner
    canvas.fill(left, top, right, top + line_px, colour)
    canvas.fill(left, bottom - line_px, right, bottom, colour)
    canvas.fill(left, top, left + line_px, bottom, colour)
    canvas.fill(right - line_px, top, right, bottom, colour)


def _on_grid(box: Sequence[float], canvas: Canvas) -> Rectangle:
    """Return a box in even px inside the picture, where colours of video are sharp."""
    width, height = canvas.width + canvas.width % 2, canvas.height + canvas.height % 2
    left, right = _span_on_grid(box[0], box[2], width)
    top, bottom = _span_on_grid(box[1], box[3], height)
    return left, top, right, bottom


def _span_on_grid(start: float, end: float, limit: int) -> tuple[int, int]:
    low = min(max(0, int(start)) // 2 * 2, limit - 2)
    return low, max(low + 2, min(_even(end), limit))


def _font_px(canvas: Canvas) -> int:
    return max(LEAST_FONT_PX, round(max(canvas.width, canvas.height) / PX_PER_FONT_PX))


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


@cache
def _size(text: str, font_px: int) -> tuple[int, int]:
    """Return the even width and height of a label in px."""
    left, _, right, _ = _font(font_px).getbbox(text)
    return _even(right - left + 2 * _margin(font_px)), _even(1.3 * font_px)


def _label(text: str, colour: Colour, font_px: int) -> Picture:
    """Return the picture of a label: text in black or white on the colour, whichever is easier to read."""
    width, height = _size(text, font_px)
    image = Image.new("RGB", (width, height), colour)
    ink = BLACK if _luminance(colour) > 0.18 else WHITE
    ImageDraw.Draw(image).text((_margin(font_px), height / 2), text, fill=ink, font=_font(font_px), anchor="lm")
    return np.asarray(image)


def _margin(font_px: int) -> int:
    return max(2, font_px // 4)


def _luminance(colour: Colour) -> float:
    """Return the relative luminance of sRGB, by WCAG 2. From 0.18 on, black stands out better than white."""
    light = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def _even(value: float) -> int:
    """Return the least even number that is at least `value`, and at least 2."""
    return max(2, 2 * int(np.ceil(value / 2)))


def sheet(pictures: Sequence[Picture], columns: int, gap_px: int = 8) -> Picture:
    """Arrange pictures of one size in rows of `columns` on white. The last row is centred."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        in_row = min(columns, len(pictures) - row * columns)
        left = (page.shape[1] - in_row * (width + gap_px) + gap_px) // 2 + column * (width + gap_px)
        top = gap_px + row * (height + gap_px)
        page[top : top + height, left : left + width] = picture
    return page


def caption(text: str, width: int) -> Picture:
    """Return black text on white, (H, width, 3), in as many lines as it needs."""
    font, line_px = _font(LEAST_FONT_PX + 2), 2 * LEAST_FONT_PX
    lines = wrap(text, max(int((width - line_px) / font.getlength("n")), 1))
    image = Image.new("RGB", (width, line_px * len(lines)), WHITE)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((line_px / 2, line_px * (number + 0.5)), line, fill=BLACK, font=font, anchor="lm")
    return np.asarray(image)


def encode_png(picture: Picture) -> bytes:
    """Encode an RGB picture as PNG."""
    file = BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return file.getvalue()
