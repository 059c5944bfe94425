"""MTCNN, of facenet-pytorch."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Faces, Picture
from pipeline.models.batches import card_turn, is_card
from pipeline.models.face_detector import NO_FACES, faces_of, fit
from pipeline.models.facenet import MTCNN, detect_face
from pipeline.models.networks import in_picture_layout


class Mtcnn:
    """MTCNN (Zhang et al., 2016) of facenet-pytorch. RGB; the package normalises.

    It takes one crop per call, because its later networks pool the proposals of a batch. Threads take turns on a card.
    """

    def __init__(self, *, input_px: int, min_score: float, device: str, **_: object) -> None:
        # The package loads its own files, which the registry has verified.
        self._network = MTCNN(thresholds=[0.6, 0.7, min_score], keep_all=True, device=torch.device(device)).eval()
        if device == "cpu":
            for network in (self._network.pnet, self._network.rnet, self._network.onet):
                in_picture_layout(network, device)
            detect_face.imresample = resample
        self._turn = card_turn if is_card(torch.device(device)) else nullcontext()
        self._input_px = input_px
        self._min_score = min_score

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [self._find(crop) for crop in crops]

    def _find(self, crop: Picture) -> Faces:
        canvas, scale = fit(crop, self._input_px)
        with self._turn:
            raw = self._network.detect(canvas, landmarks=True)
        if raw[0] is None:
            return NO_FACES
        boxes, scores, landmarks = (np.asarray(array, np.float32) for array in raw)
        return faces_of((boxes, scores, landmarks), scale, self._min_score)


SMALL_RESULT_PX = 48
"""Side of the faces that MTCNN's last network looks at. The parts of its pyramid are larger or few."""


def resample(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, C, H, W) pictures in another (height, width): each pixel is the mean of those under it.

    It computes what MTCNN's package asks torch for. Two products of matrices are faster where the result is
    small.
    """
    if max(size) > SMALL_RESULT_PX or pictures.device.type != "cpu":
        return torch.nn.functional.interpolate(pictures, size=size, mode="area")
    count, channels, height, width = pictures.shape
    rows, columns = _means(height, size[0]), _means(width, size[1])
    lines = pictures.permute(0, 2, 3, 1).reshape(count, height, width * channels)  # as the pictures lie in memory
    shrunk = torch.stack([rows @ picture for picture in lines]).view(count, size[0], width, channels)
    return (
        (shrunk.transpose(2, 3).reshape(-1, width) @ columns.T).view(count, size[0], channels, size[1]).transpose(1, 2)
    )


@lru_cache(maxsize=1024)
def _means(length: int, size: int) -> Tensor:
    """Return the (size, length) matrix that takes means of neighbours, as torch's adaptive pooling chooses them."""
    starts = torch.arange(size) * length // size
    ends = -(-(torch.arange(size) + 1) * length // size)
    places = torch.arange(length)
    inside = (places >= starts[:, None]) & (places < ends[:, None])
    return inside.float() / inside.sum(1, keepdim=True)
