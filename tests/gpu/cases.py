"""The networks of the pipeline on a device, each with the batch that a run with a card has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import AUTO_BATCHES
from pipeline.models.attributes import load_attributes
from pipeline.models.batches import Batches
from pipeline.models.body_embedder import BodyEmbedder
from pipeline.models.face_embedder import FaceEmbedder
from pipeline.models.loading import WHOLE, load_estimator, load_face_detector
from pipeline.models.person_detector import PersonDetector
from tests.gpu import checkpoints
from tests.shared import SHARED

WEIGHTS = SHARED / "weights"
OURS = Path(__file__).parents[2] / "weights"
PICTURES, CROPS, FACES, RESTORED = AUTO_BATCHES["cuda"].values()
ESTIMATES = 16
"""Batches: observe.detector, observe.body, faces, restore and estimate."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network.

    batches: runs it.
    shape: of a batch of uint8.
    """

    batches: Batches
    shape: tuple[int, ...]

    def samples(self, seed: int) -> NDArray[np.uint8]:
        """Return a batch of smooth coloured noise."""
        return checkpoints.smooth_noise(seed, self.shape)

    def run(self, samples: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Run up to a batch of samples, padded with black."""

        def write(rows: NDArray[Any], first: int) -> None:
            rows[:] = samples[first : first + len(rows)]

        return self.batches.run(self.shape, np.uint8, write, len(samples))


def person_detector(weights: Path, *, image_size: int = 640, batch: int = PICTURES, **on: Any) -> PersonDetector:
    knobs = {"min_score": 0.1, "nms_iou": 0.7, "max_per_frame": 300}
    return PersonDetector(weights, image_size=image_size, batch=batch, **knobs, **on)


def of_detector(weights: Path, shape: tuple[int, int], **on: Any) -> Case:
    detector = person_detector(weights, image_size=max(shape), **on)
    return Case(detector.batches, (PICTURES, *shape, 3))


def of_embedder(weights: Path, **on: Any) -> Case:
    embedder: Any = BodyEmbedder(weights, batch=CROPS, **on)
    return Case(embedder._run.batches, (CROPS, embedder.height, embedder.width, 3))


def of_face_detector(kind: str, weights: Path, side_px: int = 320, **on: Any) -> Case:
    detector: Any = load_face_detector(kind, {WHOLE: weights}, input_px=side_px, batch=FACES, min_score=0.5, **on)
    return Case(detector._run.batches, (FACES, side_px, side_px, 3))


def of_face_embedder(weights: Path, **on: Any) -> Case:
    embedder: Any = FaceEmbedder(weights, batch=ESTIMATES, **on)
    return Case(embedder._run.batches, (ESTIMATES, embedder._height, embedder._width, 3))


def of_attributes(weights: Path, **on: Any) -> Case:
    estimator: Any = load_estimator("attributes", {WHOLE: weights}, batch=ESTIMATES, **on)
    side_px = load_attributes(weights)[1].side_px
    return Case(estimator._run.batches, (ESTIMATES, side_px, side_px, 3))


def of_ssrnet(age: Path, gender: Path, **on: Any) -> Case:
    estimator: Any = load_estimator("ssrnet", {"age": age, "gender": gender}, batch=ESTIMATES, **on)
    return Case(estimator._run.batches, (ESTIMATES, 64, 64, 3))


def of_restorer(weights: Path, **on: Any) -> Case:
    from pipeline.models.face_restorer import FACE_PX, FaceRestorer

    restorer: Any = FaceRestorer(weights, batch=RESTORED, **on)
    return Case(restorer._run.batches, (RESTORED, FACE_PX, FACE_PX, 3))


MADE: Mapping[str, Callable[[Path], None]] = {
    "yolo11m": checkpoints.yolo("yolo11m.yaml"),
    "yolo11x": checkpoints.yolo("yolo11x.yaml"),
    "osnet-x1-0": checkpoints.osnet("osnet_x1_0"),
    "osnet-ain-x1-0": checkpoints.osnet("osnet_ain_x1_0"),
    "retinaface-r50": checkpoints.retinaface_r50,
    "facenet": checkpoints.facenet,
    "gfpgan": checkpoints.gfpgan,
}
"""Name -> function that writes its checkpoint."""

CASES: Mapping[str, Callable[..., Case]] = {
    "yolov8n": lambda made, **on: of_detector(WEIGHTS / "yolov8n.pt", (384, 640), **on),
    "yolov8n, portrait": lambda made, **on: of_detector(WEIGHTS / "yolov8n.pt", (640, 384), **on),
    "yolov8n, as for crowds": lambda made, **on: of_detector(WEIGHTS / "yolov8n.pt", (736, 1280), **on),
    "starter-person": lambda made, **on: of_detector(OURS / "starter-person.safetensors", (256, 416), **on),
    "osnet-x0-25": lambda made, **on: of_embedder(WEIGHTS / "osnet_x0_25_msmt17.pt", **on),
    "starter-body": lambda made, **on: of_embedder(OURS / "starter-body.safetensors", **on),
    "retinaface-mobile": lambda made, **on: of_face_detector(
        "retinaface-mobile0.25", WEIGHTS / "mobilenet0.25_Final.pth", **on
    ),
    "starter-face-check": lambda made, **on: of_face_detector(
        "face-check", OURS / "starter-face-check.safetensors", 96, **on
    ),
    "starter-attributes": lambda made, **on: of_attributes(OURS / "starter-attributes.safetensors", **on),
    "ssrnet": lambda made, **on: of_ssrnet(WEIGHTS / "ssrnet_wiki.h5", WEIGHTS / "ssrnet_wiki_gender_models.h5", **on),
    "yolo11m": lambda made, **on: of_detector(made("yolo11m"), (384, 640), **on),
    "yolo11x": lambda made, **on: of_detector(made("yolo11x"), (384, 640), **on),
    "osnet-x1-0": lambda made, **on: of_embedder(made("osnet-x1-0"), **on),
    "osnet-ain-x1-0": lambda made, **on: of_embedder(made("osnet-ain-x1-0"), **on),
    "retinaface-r50": lambda made, **on: of_face_detector("retinaface-r50", made("retinaface-r50"), **on),
    "facenet": lambda made, **on: of_face_embedder(made("facenet"), **on),
    "gfpgan": lambda made, **on: of_restorer(made("gfpgan"), **on),
}
"""Name -> the network. `made` returns the path of a checkpoint of MADE; `on` is device and half."""
