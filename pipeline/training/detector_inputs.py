"""The pictures from which a small detector learns: composed, zoomed, and altered in light and sharpness."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.models.person_detector import GREY

MAX_ZOOM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A picture to train on.

    picture: (H, W, 3) uint8 RGB.
    boxes: (N, 4) float32 xyxy px.
    labelled: True if people labelled it, False if the teacher did.
    """

    picture: Picture
    boxes: NDArray[np.float32]
    labelled: bool


class Task(NamedTuple):
    """A training step to come.

    epoch, step: position of the step, from 0. They seed its random numbers.
    chosen: indices of its examples.
    done: share of the training that is done, 0..1.
    """

    epoch: int
    step: int
    chosen: list[int]
    done: float


class Inputs(NamedTuple):
    """The inputs of one training step, of B pictures with N boxes.

    pictures: (B, size, size, 3) uint8 RGB.
    boxes: (N, 4) float32 xyxy px.
    owners: (N,) int64. Index of each box's picture.
    labelled: (B,) bool. True for pictures that people labelled.
    done: share of the training that is done, 0..1.
    """

    pictures: torch.Tensor
    boxes: torch.Tensor
    owners: torch.Tensor
    labelled: torch.Tensor
    done: float


def compose(
    examples: Sequence[Example], first: int, size: int, *, mosaic: bool, close: float, rng: np.random.Generator
) -> tuple[Picture, NDArray[np.float32], bool]:
    """Return one augmented (size, size, 3) input, its (N, 4) boxes in px, and whether people labelled it.

    The input shows `examples[first]`, alone or in a mosaic with three others of its kind.
    """
    canvas = np.full((size, size, 3), GREY, np.uint8)
    labelled = examples[first].labelled
    if not mosaic:
        boxes = _view(examples[first], canvas, close, rng)
    else:
        x, y = (int(size * share) for share in rng.uniform(0.3, 0.7, 2))
        kind = [index for index, example in enumerate(examples) if example.labelled == labelled]
        chosen = [first, *rng.choice(kind, 3).tolist()]
        windows = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
        parts = []
        for place, index in zip(rng.permutation(4), chosen, strict=True):
            left, top, right, bottom = windows[place]
            part = _view(examples[index], canvas[top:bottom, left:right], close, rng)
            parts.append(part + np.array([left, top] * 2, np.float32))
        boxes = np.vstack(parts)
    return _photometric(canvas, rng), boxes, labelled


def _view(example: Example, window: Picture, close: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw `example` scaled, shifted and sometimes mirrored into `window`, and return the visible boxes.

    With the probability `close` somebody's upper body fills the window, if that enlarges the picture by at most
    MAX_ZOOM.
    """
    height, width = example.picture.shape[:2]
    out_height, out_width = window.shape[:2]
    scale = np.sqrt(out_width * out_height / (width * height)) * np.exp(rng.uniform(np.log(0.5), np.log(1.8)))
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    if width == height and rng.random() < 0.5:  # the picture may have been squashed to a square
        stretch *= rng.uniform(1.0, 16 / 9) ** 0.5
    x_scale, y_scale = scale * stretch, scale / stretch
    x, y = (
        rng.uniform(min(0, room), max(0, room)) for room in (out_width - width * x_scale, out_height - height * y_scale)
    )
    if len(example.boxes) and rng.random() < close:
        left, top, right, bottom = rng.choice(example.boxes)
        zoom = rng.uniform(0.9, 2.5) * out_height / max(bottom - top, 1)
        if zoom <= MAX_ZOOM:
            scale, x_scale, y_scale = zoom, zoom * stretch**2, zoom
            x = out_width * rng.uniform(0.2, 0.8) - (left + right) / 2 * x_scale
            y = out_height * rng.uniform(0, 0.3) - top * y_scale
    mirrored = rng.random() < 0.5
    matrix = np.array([[x_scale, 0, x], [0, y_scale, y]])
    boxes = example.boxes * np.array([x_scale, y_scale] * 2) + np.array([x, y] * 2)
    if mirrored:
        matrix[0] = [-x_scale, 0, out_width - 1 - x]
        boxes[:, [0, 2]] = out_width - boxes[:, [2, 0]]
    method = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
    if scale < 0.6:  # warpAffine does not average, so shrink first
        small = cv2.resize(example.picture, None, fx=x_scale, fy=y_scale, interpolation=method)
        matrix[:, :2] = matrix[:, :2] @ np.diag([width / small.shape[1], height / small.shape[0]])
    else:
        small = example.picture
    border = (GREY, GREY, GREY)
    window[:] = cv2.warpAffine(small, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR, borderValue=border)
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    boxes = np.clip(boxes, 0, [out_width, out_height] * 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    shown = np.prod(sides, axis=1)
    return boxes[
        (sides.min(1, initial=np.inf) >= 4) & (shown >= np.minimum(0.2 * whole, 0.15 * out_width * out_height))
    ].astype(np.float32)


def _photometric(picture: Picture, rng: np.random.Generator) -> Picture:
    """Change the colours, and sometimes add blur, noise, darkness and JPEG, as in surveillance video."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * (5, 0.6, 0.4)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    levels = np.arange(256)
    gamma = rng.uniform(1.2, 2.2) if rng.random() < 0.1 else 1.0  # dusk
    tables = (
        ((levels + hue) % 180).astype(np.uint8),
        np.clip(levels * (1 + saturation), 0, 255).astype(np.uint8),
        np.clip(255 * (levels / 255) ** gamma * (1 + value), 0, 255).astype(np.uint8),
    )
    hsv = cv2.merge([cv2.LUT(channel, table) for channel, table in zip(cv2.split(hsv), tables, strict=True)])
    out = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.05:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.12:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.1:
        grain = rng.normal(0, rng.uniform(3, 12), out.shape).astype(np.float32)
        out = np.clip(out + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        quality = int(rng.integers(25, 75))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return np.asarray(out, np.uint8)
