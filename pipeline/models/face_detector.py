"""Find faces in pictures: five kinds of detectors behind one interface.

Each detector states its colour order and normalisation. It takes RGB crops of any size and returns `arrays.Faces` in
the crop's pixels, best first. The result for a crop depends on that crop alone. Boxes may reach over the crop's
border.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torchvision
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face
from facexlib.detection.retinaface import RetinaFace as FacexlibRetinaFace
from facexlib.detection.retinaface_utils import PriorBox, decode, decode_landm
from numpy.typing import NDArray
from retinaface.commons import postprocess
from retinaface.model.retinaface_pth_model import RetinaFace as RetinaFaceR50
from torch import Tensor

from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.models.batches import card_turn, is_card
from pipeline.models.networks import (
    REPLACE,
    SAMPLES_A_PASS,
    Runner,
    fill,
    for_inference,
    halve,
    in_picture_layout,
    read_checkpoint,
)
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


def load_retinaface_mobile(
    path: Path, *, input_px: int, batch: int, min_score: float, device: str, half: bool
) -> RetinaFace:
    """Load RetinaFace on MobileNet-0.25."""
    network = RetinaFaceMobileNetwork(path, input_px=input_px, device=device, half=half)
    return RetinaFace(network, input_px=input_px, batch=batch, min_score=min_score, device=device)


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
