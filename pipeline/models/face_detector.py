"""Find faces in pictures: what the kinds of detectors share, and those without a package of their own.

Each detector states its colour order and normalisation. It takes RGB crops of any size and returns `arrays.Faces` in
the crop's pixels, best first. The result for a crop depends on that crop alone. Boxes may reach over the crop's
border.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.models.networks import REPLACE, Runner
from pipeline.models.per_thread import PerThread
from pipeline.models.person_detector import STRIDE, PersonDetector

MAX_UPSCALE = 4.0
"""Largest enlargement of a small crop. 202 faces with their shoulders, 5 px between the eyes, were searched in 320
px at enlargements of 1, 2, 4 and 10. RetinaFace mobile0.25 found .19, .94, .99 and 1.00 of them, and YuNet .80, .97,
1.00 and .99."""
MAX_FACES = 300
"""Most faces in a picture for yolo-face: Ultralytics' default."""
NMS_IOU = 0.4
"""NMS threshold of both RetinaFace packages, close to YuNet's .3."""

NetworkFaces = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""boxes (N, 4), scores (N,), landmarks (N, 5, 2), in pixels of the detector's input."""


class RetinaFaceNetwork(Protocol):
    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return outputs of B rows each for (B, S, S, 3) uint8 RGB. The first is (B, A): the face scores of the A
        anchors."""
        ...

    def decode(self, outputs: Sequence[NDArray[np.float32]], anchors: NDArray[np.int64]) -> NetworkFaces:
        """Decode one sample's `outputs` at the anchors with these numbers."""
        ...


class RetinaFace:
    """RetinaFace (Deng et al., CVPR 2020) in batches of one fixed shape."""

    def __init__(
        self,
        network: RetinaFaceNetwork,
        *,
        input_px: int,
        batch: int,
        min_score: float,
        device: str,
        samples_a_pass: int | None = None,
    ) -> None:
        self._network = network
        self._run = Runner(network.forward, batch=batch, device=device, half=False, samples_a_pass=samples_a_pass)
        self._input_px = input_px
        self._min_score = min_score

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        if not crops:
            return []
        fitted = [fit(crop, self._input_px) for crop in crops]
        outputs = self._run(np.stack([canvas for canvas, _ in fitted]))
        faces = []
        for index, (_, scale) in enumerate(fitted):
            sample = [output[index] for output in outputs]
            likely = np.flatnonzero(np.round(sample[0], 3) >= np.float32(self._min_score))
            faces.append(faces_of(self._network.decode(sample, likely), scale, self._min_score))
        return faces


class Yunet:
    """YuNet (Wu et al., 2023) through OpenCV. BGR, 0..255, no mean. One crop per call.

    OpenCV's network must not be called by two threads at once, so each thread has its own.
    """

    def __init__(self, path: Path, *, input_px: int, min_score: float, **_: object) -> None:
        self._path = path
        self._input_px = input_px
        self._min_score = min_score
        self._network = PerThread(self._load)
        try:
            self._network()
        except cv2.error as error:
            raise UserError(f"weights {path} are no YuNet that OpenCV can read ({error.err}); {REPLACE}") from None

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [self._find(crop) for crop in crops]

    def _find(self, crop: Picture) -> Faces:
        canvas, scale = fit(crop, self._input_px)
        _, rows = self._network().detect(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        if rows is None:
            return NO_FACES
        faces = np.asarray(rows, np.float32)
        boxes = np.hstack([faces[:, :2], faces[:, :2] + faces[:, 2:4]])
        return faces_of((boxes, faces[:, 14], faces[:, 4:14].reshape(-1, 5, 2)), scale, self._min_score)

    def _load(self) -> cv2.FaceDetectorYN:
        size = (self._input_px, self._input_px)
        return cv2.FaceDetectorYN.create(str(self._path), "", size, self._min_score, NMS_IOU)


class YoloFace:
    """An Ultralytics detector with a class `face`, as `rollcall train detector --name face` makes it. RGB, 0..1.

    It takes one crop per call. It finds no landmarks: they are nan.
    """

    def __init__(self, path: Path, *, input_px: int, min_score: float, device: str, half: bool, **_: object) -> None:
        self._find = PersonDetector(
            path,
            image_size=-(-input_px // STRIDE) * STRIDE,
            batch=1,
            min_score=min_score,
            nms_iou=NMS_IOU,
            max_per_frame=MAX_FACES,
            device=device,
            half=half,
            target="face",
        )

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [
            Faces(heads.boxes, heads.scores, np.full((len(heads), 5, 2), np.nan, np.float32))
            for heads in self._find(crops)
        ]


NO_FACES = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def fit(crop: Picture, side_px: int) -> tuple[Picture, float]:
    """Put `crop` into the upper left corner of a black square of `side_px`, and return the square and its scale.

    Small crops are enlarged, at most MAX_UPSCALE times. The scale is px of the square per px of the crop.
    """
    height, width = crop.shape[:2]
    scale = min(side_px / max(height, width), MAX_UPSCALE)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.zeros((side_px, side_px, 3), np.uint8)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[: size[1], : size[0]] = cv2.resize(crop, size, interpolation=interpolation)
    return canvas, scale


def faces_of(raw: NetworkFaces, scale: float, min_score: float) -> Faces:
    """Scale back to the crop, round, drop weak and duplicate faces, and order: best first, then from left to right.

    Every value is rounded before it decides anything. Position decides between equal scores.
    """
    boxes = np.round(raw[0] / scale, 1).astype(np.float32)
    scores = np.round(raw[1], 3).astype(np.float32)
    landmarks = np.round(raw[2] / scale, 1).astype(np.float32)
    order = np.lexsort((boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))
    order = order[scores[order] >= np.float32(min_score)]
    kept = torchvision.ops.nms(torch.from_numpy(boxes[order]), torch.from_numpy(scores[order]), NMS_IOU).numpy()
    return Faces(boxes, scores, landmarks)[order[kept]]
