"""Find out quickly whether a crop of a person shows a face: a small network of our own, trained on crops of people.

It divides the crop into cells of STRIDE px. Each cell has the score of a face whose middle is near, and a box. RGB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.models.face_detector import faces_of, fit
from pipeline.models.networks import Runner, fill, for_inference, halve, read_checkpoint, read_facts, write_checkpoint

KIND = "face-check"
STRIDE = 8
MEAN, STD = 127.5, 64.0
"""Mean and deviation of pixel values, 0..255. They bring the input close to a standard normal distribution."""
LONGEST = 4.0
"""Largest logarithm of a side of a box in cells. It keeps an untrained network from overflowing."""


class FaceCheckNet(nn.Module):
    """The network: 0.1 million weights, 14 million multiply-adds at 96 px. It takes squares of whole cells."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(3, 16, stride=2),
            *_layer(16, 32, stride=2),
            *_layer(32, 32),
            *_layer(32, 48, stride=2),
            *_layer(48, 48),
            *_layer(48, 48, dilation=2),
            *_layer(48, 48),
        )
        self.head = nn.Conv2d(48, 5, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Map (B, 3, S, S) RGB, 0..255, to (B, 5, C, C) for C x C cells: the logit of a face, the distance of its
        middle from that of the cell in cells (x, y), and the logarithms of its width and height in cells."""
        return self.head(self.layers((crops - MEAN) / STD))


def _layer(width_in: int, width: int, *, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(width_in, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


class FaceCheck:
    """The network as a detector of faces without landmarks: they are nan. The file states the size of its input."""

    def __init__(self, path: Path, *, batch: int, min_score: float, device: str, half: bool, **_: object) -> None:
        network, self._side_px = load_face_check(path)
        self._network = for_inference(network, device)
        if half:
            halve(self._network, "head")
        self._run = Runner(self._forward, batch=batch, device=device, half=False)
        self._min_score = min_score

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        if not crops:
            return []
        fitted = [fit(crop, self._side_px) for crop in crops]
        (maps,) = self._run(np.stack([canvas for canvas, _ in fitted]))
        return [self._faces(cells, scale) for cells, (_, scale) in zip(maps, fitted, strict=True)]

    def _forward(self, crops: Tensor) -> Tensor:
        maps = self._network(crops.permute(0, 3, 1, 2).float()).float()
        return torch.cat([torch.sigmoid(maps[:, :1]), maps[:, 1:]], 1)

    def _faces(self, cells: NDArray[np.float32], scale: float) -> Faces:
        rows, columns = np.nonzero(np.round(cells[0], 3) >= np.float32(self._min_score))
        scores, *places = cells[:, rows, columns]
        boxes = boxes_of(np.stack(places, axis=1), np.stack([columns, rows], axis=1))
        landmarks = np.full((len(boxes), 5, 2), np.nan, np.float32)
        return faces_of((boxes, scores, landmarks), scale, self._min_score)


def boxes_of(places: NDArray[np.floating], cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (N, 4) xyxy px of the network's input. places: (N, 4), the network's last four outputs.

    cells: (N, 2), column and row."""
    middles = (cells + 0.5 + places[:, :2]) * STRIDE
    halves = np.exp(np.minimum(places[:, 2:], LONGEST)) * STRIDE / 2
    return np.hstack([middles - halves, middles + halves]).astype(np.float32)


def write_face_check(path: Path, network: FaceCheckNet, side_px: int, facts: Mapping[str, object]) -> None:
    """Write the network in float16.

    side_px: of the square inputs, a multiple of STRIDE.
    facts: about its training, for the file's metadata.
    """
    write_checkpoint(path, network.state_dict(), {"kind": KIND, "side_px": side_px, **facts}, half=True)


def load_face_check(path: Path) -> tuple[FaceCheckNet, int]:
    """Return the network in `path`, ready to run, and the side of its inputs in px. Raises UserError."""
    facts = read_facts(path)
    side_px = facts.get("side_px")
    if facts.get("kind") != KIND or not isinstance(side_px, int) or side_px < STRIDE or side_px % STRIDE:
        raise UserError(f"weights {path} hold no network of kind {KIND}; `rollcall train faces` writes one")
    return fill(FaceCheckNet(), read_checkpoint(path), path), side_px
