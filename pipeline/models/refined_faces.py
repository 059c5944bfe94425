"""Find faces where the quick face check supposes some, with MTCNN's last network, which also finds the landmarks.

MTCNN itself searches a pyramid of pictures for places and sorts out most of them by a second network. On a crop of one
person that is nearly all of its work. RGB, (x - 127.5) / 128.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Faces, Picture
from pipeline.models.face_check import FaceCheck
from pipeline.models.face_detector import NO_FACES, NetworkFaces, faces_of
from pipeline.models.facenet import ONet
from pipeline.models.networks import Runner, fill, in_picture_layout, read_checkpoint

SIDE_PX = 48
SMALLEST_PX = 4
PLACE_SCORE, MOST_PLACES = 0.2, 3
"""Lowest score of the check for a place that is looked at, and most such places in a crop. The check names a few places
around a face, and the last network corrects its box from any of them."""
PASSES = 2
"""How often the last network corrects a box. The first pass starts from a box that is only roughly right. The faces of
all passes count, because another correction does not always make a face surer."""


class RefinedFaces:
    """The detector. It is for crops of people: in whole pictures the check has not learned to find faces."""

    def __init__(
        self,
        check: Path,
        onet: Path,
        *,
        batch: int,
        min_score: float,
        device: str,
        half: bool,
        **_: object,
    ) -> None:
        self._check = FaceCheck(check, batch=batch, min_score=PLACE_SCORE, device=device, half=half)
        network = fill(ONet(pretrained=False), read_checkpoint(onet), onet)
        self._network = in_picture_layout(network, device)
        self._run = Runner(self._forward, batch=batch, device=device, half=False)
        self._min_score = min_score

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        places = [faces[:MOST_PLACES] for faces in self._check(crops)]
        owners = np.repeat(np.arange(len(crops)), [len(faces) for faces in places])
        if not len(owners):
            return [NO_FACES for _ in crops]
        boxes = np.concatenate([faces.boxes for faces in places])
        passes: list[NetworkFaces] = []
        for _ in range(PASSES):
            squares = _squared(boxes)
            inputs = np.stack([_cut(crops[k], square) for k, square in zip(owners.tolist(), squares, strict=True)])
            shifts, points, scores = self._run(inputs)
            sides = (squares[:, 2:] - squares[:, :2]).astype(np.float32)
            boxes = squares.astype(np.float32) + np.tile(sides, 2) * shifts
            passes.append((boxes, scores, squares[:, None, :2].astype(np.float32) + sides[:, None] * points))
        raw = [np.concatenate(column) for column in zip(*passes, strict=True)]
        of_crops = (np.tile(owners == k, PASSES) for k in range(len(crops)))
        return [faces_of((raw[0][mine], raw[1][mine], raw[2][mine]), 1.0, self._min_score) for mine in of_crops]

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shifts, points, probs = self._network((inputs.permute(0, 3, 1, 2).float() - 127.5) / 128)
        return shifts, points.unflatten(1, (2, 5)).transpose(1, 2), probs[:, 1]


def _squared(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return (N, 4) squares in whole pixels around (N, 4) boxes."""
    middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    corners = np.round(middles - sides / 2).astype(np.int64)
    return np.hstack([corners, corners + np.maximum(np.round(sides), SMALLEST_PX).astype(np.int64)])


def _cut(crop: Picture, square: NDArray[np.int64]) -> Picture:
    """Cut a square out of `crop`, which goes on beyond its border as it ends, and scale it to SIDE_PX."""
    left, top, right, bottom = square.tolist()
    height, width = crop.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        part = crop[top:bottom, left:right]
    else:
        part = crop[np.arange(top, bottom).clip(0, height - 1)[:, None], np.arange(left, right).clip(0, width - 1)]
    method = cv2.INTER_AREA if right - left > SIDE_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=method), np.uint8)
