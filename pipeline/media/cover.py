"""Cover parts of pictures and video frames, so that nobody can be recognised in them.

A blurred or pixelated head keeps BLOCKS x BLOCKS values of a plane, whatever its size in px. McPherson, Shokri and
Shmatikov ("Defeating Image Obfuscation with Deep Learning", 2016) trained networks that recognise people of a small,
known group in mosaics and blurs. `fill` keeps nothing of a head, and frames that follow one another add nothing.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cores.covering import Style
from pipeline.media.canvas import Canvas, Colour

BLOCKS = 4
"""The number of blocks across the shorter side of a covered box."""
FILLED: Colour = (96, 96, 96)


def cover(canvas: Canvas, boxes: Sequence[Sequence[float]], style: Style) -> None:
    """Cover boxes, xyxy px of the canvas, in place. Px outside all boxes stay bit for bit; edges are at even px."""
    for box in boxes:
        left, top = (max(0, int(np.floor(side / 2)) * 2) for side in box[:2])
        limits = canvas.width + canvas.width % 2, canvas.height + canvas.height % 2
        right, bottom = (min(int(np.ceil(side / 2)) * 2, limit) for side, limit in zip(box[2:], limits, strict=True))
        if left >= right or top >= bottom:
            continue
        if style is Style.FILL:
            canvas.fill(left, top, right, bottom, FILLED)
            continue
        block = max(min(right - left, bottom - top) / BLOCKS, 2)
        size = max(1, round((right - left) / block)), max(1, round((bottom - top) / block))
        for part in canvas.parts(left, top, right, bottom):
            small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            interpolation = cv2.INTER_NEAREST if style is Style.PIXELATE else cv2.INTER_CUBIC
            part[:] = cv2.resize(small, part.shape[1::-1], interpolation=interpolation)
