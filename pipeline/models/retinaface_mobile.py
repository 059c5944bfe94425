"""RetinaFace on MobileNet-0.25, of facexlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from facexlib.detection.retinaface import RetinaFace as FacexlibRetinaFace
from facexlib.detection.retinaface_utils import PriorBox, decode, decode_landm
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.face_detector import NetworkFaces, RetinaFace
from pipeline.models.networks import fill, for_inference, halve, read_checkpoint


class RetinaFaceMobileNetwork:
    """RetinaFace on MobileNet-0.25, in the layout of facexlib and of Pytorch_Retinaface, which released it.

    The input is BGR, 0..255, minus ImageNet's mean of each channel. Priors and decoding are facexlib's.
    """

    def __init__(self, path: Path, *, input_px: int, device: str, half: bool) -> None:
        network = FacexlibRetinaFace("mobile0.25", device=torch.device(device))
        state = {name.removeprefix("module."): tensor for name, tensor in read_checkpoint(path).items()}
        self._network = for_inference(fill(network, state, path), device)
        if half:
            halve(self._network, "BboxHead", "ClassHead", "LandmarkHead")
        self._mean = torch.tensor([104.0, 117.0, 123.0], device=device)
        self._priors = PriorBox(network.cfg, image_size=(input_px, input_px)).forward()
        self._variances = network.cfg["variance"]
        self._input_px = input_px

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        bgr = crops.flip(-1).float() - self._mean
        boxes, scores, landmarks = self._network(bgr.permute(0, 3, 1, 2))
        return scores[..., 1], boxes, landmarks

    def decode(self, outputs: Sequence[NDArray[np.float32]], anchors: NDArray[np.int64]) -> NetworkFaces:
        scores, boxes, landmarks = (torch.from_numpy(output[anchors]) for output in outputs)
        priors = self._priors[anchors]
        return (
            (decode(boxes, priors, self._variances) * self._input_px).numpy(),
            scores.numpy(),
            (decode_landm(landmarks, priors, self._variances) * self._input_px).numpy().reshape(-1, 5, 2),
        )


def load_retinaface_mobile(
    path: Path, *, input_px: int, batch: int, min_score: float, device: str, half: bool
) -> RetinaFace:
    """Load RetinaFace on MobileNet-0.25."""
    network = RetinaFaceMobileNetwork(path, input_px=input_px, device=device, half=half)
    return RetinaFace(network, input_px=input_px, batch=batch, min_score=min_score, device=device)
