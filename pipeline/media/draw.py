"""Draw people into pictures."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.arrays import Picture

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


def draw_people(picture: Picture, boxes: NDArray[np.floating], ids: Sequence[int], labels: Sequence[str]) -> Picture:
    """Return a copy of `picture` with (N, 4) xyxy `boxes` in px, in the colour of their IDs, with labels on top."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    line_px = max(2, round(max(canvas.size) / 320))
    font = ImageFont.load_default(size=max(12, round(max(canvas.size) / 40)))
    for box, number, label in zip(boxes.tolist(), ids, labels, strict=True):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        pen.rectangle(box, outline=colour, width=line_px)
        left, _, right, bottom = pen.textbbox((0, 0), label, font=font)
        width, height = right - left + 3 * line_px, bottom + 2 * line_px
        x = min(max(box[0], 0), max(canvas.width - width, 0))
        y = box[1] - height if box[1] >= height else box[1]  # inside if there is no room above
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        pen.text((x + 1.5 * line_px, y + line_px), label, fill=(0, 0, 0), font=font)
    return np.asarray(canvas)


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


def encode_png(picture: Picture) -> bytes:
    """Encode an RGB picture as PNG."""
    file = BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return file.getvalue()
