"""Load the models that a configuration names onto the chosen device. Only verified bytes are loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.models import lean  # noqa: F401  (before all that imports torchvision)

# isort: split
import cv2
import torch

from pipeline.config import Config
from pipeline.models.body_embedder import BodyEmbedder
from pipeline.models.estimator import WHOLE, Estimator, load_estimator
from pipeline.models.face_detector import FaceDetector, load_face_detector
from pipeline.models.face_embedder import FaceEmbedder
from pipeline.models.person_detector import PersonDetector
from pipeline.weights import Registry

if TYPE_CHECKING:
    from pipeline.models.face_restorer import FaceRestorer


class Loader:
    """Loads the models that a configuration names. `config.compute.device` must be decided: cpu or cuda."""

    def __init__(self, config: Config, registry: Registry) -> None:
        if config.compute.device == "auto":
            raise ValueError("compute.device must be decided before models are loaded")
        torch.set_num_threads(config.compute.threads)
        cv2.setNumThreads(config.compute.threads)  # the last bits of its networks depend on the number of threads
        torch.backends.cudnn.benchmark = False  # the fastest kernel differs from run to run
        torch.backends.cudnn.deterministic = True
        self._config = config
        self._registry = registry
        self._device = config.compute.device
        self._half = config.compute.precision == "auto" and self._device == "cuda"

    def person_detector(self) -> PersonDetector:
        chosen = self._config.observe.detector
        return PersonDetector(
            self._registry.path(chosen.weights),
            image_size=chosen.image_size,
            batch=chosen.batch,
            min_score=chosen.min_score,
            nms_iou=chosen.nms_iou,
            max_per_frame=chosen.max_per_frame,
            device=self._device,
            half=self._half,
        )

    def body_embedder(self) -> BodyEmbedder | None:
        chosen = self._config.observe.body
        if chosen.weights is None:
            return None
        path = self._registry.path(chosen.weights)
        return BodyEmbedder(path, batch=chosen.batch, device=self._device, half=self._half)

    def face_check(self) -> FaceDetector | None:
        """Load the detector for the quick face check of a crop, or return None if the check is off."""
        chosen = self._config.candidates
        return self._face_detector(chosen.look, chosen.look_px, 1, chosen.look_score) if chosen.look else None

    def face_detector(self) -> FaceDetector:
        """Load the face detector for crops of people."""
        chosen = self._config.faces
        return self._face_detector(chosen.detector, chosen.input_px, chosen.batch, chosen.min_score)

    def whole_frame_face_detector(self) -> FaceDetector | None:
        """Load the face detector for whole frames, at the person detector's input size, or return None if this is
        off."""
        if not self._config.observe.whole_frame_faces:
            return None
        chosen, size_px = self._config.faces, self._config.observe.detector.image_size
        return self._face_detector(chosen.detector, size_px, 1, chosen.min_score)

    def restorer(self) -> "FaceRestorer | None":
        chosen = self._config.restore
        if chosen.mode == "off":
            return None
        from pipeline.models.face_restorer import FaceRestorer  # gfpgan takes seconds to import, and is seldom needed

        path = self._registry.path(chosen.weights)
        return FaceRestorer(path, batch=chosen.batch, device=self._device, half=self._half)

    def estimator(self) -> Estimator | None:
        chosen = self._config.estimate
        if chosen.estimator is None:
            return None
        kind = self._registry.entry(chosen.estimator).kind
        parts = self._parts(chosen.estimator)
        return load_estimator(kind, parts, batch=chosen.batch, device=self._device, half=self._half)

    def face_embedder(self) -> FaceEmbedder | None:
        chosen = self._config.estimate
        if chosen.face_embedding is None:
            return None
        path = self._registry.path(chosen.face_embedding)
        return FaceEmbedder(path, batch=chosen.batch, device=self._device, half=self._half)

    def _face_detector(self, name: str, input_px: int, batch: int, min_score: float) -> FaceDetector:
        entry = self._registry.entry(name)
        path = None if entry.parts else self._registry.path(name)
        return load_face_detector(
            entry.kind,
            path,
            input_px=input_px,
            batch=batch,
            min_score=min_score,
            device=self._device,
            half=self._half,
        )

    def _parts(self, name: str) -> Mapping[str, Path]:
        entry = self._registry.entry(name)
        parts = entry.parts or {WHOLE: name}
        return {role: self._registry.path(part) for role, part in parts.items()}
