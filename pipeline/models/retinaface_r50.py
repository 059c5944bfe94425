"""RetinaFace on ResNet-50, of the retina-face package."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from retinaface.commons import postprocess
from retinaface.model.retinaface_pth_model import RetinaFace as RetinaFaceR50
from torch import Tensor

from pipeline.models.face_detector import NetworkFaces, RetinaFace
from pipeline.models.networks import SAMPLES_A_PASS, fill, for_inference, halve, read_checkpoint


class RetinaFaceR50Network:
    """RetinaFace on ResNet-50, in the layout of the retina-face package.

    Its input is RGB, 0..255, as in that package. The first layer, `bn_data`, holds the normalisation. Anchors and
    decoding are those of its detect_faces. The heads of stride 32 come first.
    """

    def __init__(self, path: Path, *, input_px: int, device: str, half: bool) -> None:
        self._network = for_inference(fill(RetinaFaceR50(), read_checkpoint(path), path), device)
        if half:
            halve(self._network, *(f"face_rpn_stride{stride}" for stride in R50_ANCHORS))
        planes = [
            postprocess.anchors_plane(input_px // stride, input_px // stride, stride, np.array(anchors, np.float32))
            for stride, anchors in R50_ANCHORS.items()
        ]
        self._anchors = np.concatenate([plane.reshape(-1, 4) for plane in planes])

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        heads = self._network(crops.float())
        rows = len(crops)
        scores = torch.cat([scores[..., 2:].reshape(rows, -1) for scores in heads[0::3]], dim=1)
        boxes = torch.cat([boxes.reshape(rows, -1, 4) for boxes in heads[1::3]], dim=1)
        landmarks = torch.cat([points.reshape(rows, -1, 5, 2) for points in heads[2::3]], dim=1)
        return scores, boxes, landmarks

    def decode(self, outputs: Sequence[NDArray[np.float32]], anchors: NDArray[np.int64]) -> NetworkFaces:
        scores, boxes, landmarks = (output[anchors] for output in outputs)
        places = self._anchors[anchors]
        return (
            postprocess.bbox_pred(places, boxes).astype(np.float32),
            scores,
            np.asarray(postprocess.landmark_pred(places, landmarks), np.float32).reshape(-1, 5, 2),
        )


R50_ANCHORS = {
    32: [[-248.0, -248.0, 263.0, 263.0], [-120.0, -120.0, 135.0, 135.0]],
    16: [[-56.0, -56.0, 71.0, 71.0], [-24.0, -24.0, 39.0, 39.0]],
    8: [[-8.0, -8.0, 23.0, 23.0], [0.0, 0.0, 15.0, 15.0]],
}
"""Stride -> the two squares around its first position (retinaface/RetinaFace.py, _anchors_fpn)."""


def load_retinaface_r50(
    path: Path, *, input_px: int, batch: int, min_score: float, device: str, half: bool
) -> RetinaFace:
    """Load RetinaFace on ResNet-50."""
    return RetinaFace(
        RetinaFaceR50Network(path, input_px=input_px, device=device, half=half),
        input_px=input_px,
        batch=batch,
        min_score=min_score,
        device=device,
        samples_a_pass=SAMPLES_A_PASS["retinaface-r50"],
    )
