"""OpenCV's SSD face detector (seed T): a ResNet-10 that was trained on squares of 300 px. BGR, minus a mean.

It comes as a Caffe model or as a TensorFlow graph; the text of the layout tells which. It finds no landmarks: they are
nan. It takes one crop per call.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.models.face_detector import NO_FACES, faces_of, fit
from pipeline.models.per_thread import PerThread

MEAN = (104.0, 177.0, 123.0)
"""BGR. The value of the samples of OpenCV that use this model."""


class SsdFace:
    """The detector. OpenCV's network must not be called by two threads at once, so each thread has its own.

    layout: the prototxt or pbtxt. network: the caffemodel or pb.
    """

    def __init__(self, layout: Path, network: Path, *, input_px: int, min_score: float, **_: object) -> None:
        self._layout, self._network = layout, network
        self._input_px, self._min_score = input_px, min_score
        self._net = PerThread(self._load)
        try:
            self._run(np.zeros((input_px, input_px, 3), np.uint8))
        except (cv2.error, ValueError) as error:
            reason = (str(getattr(error, "err", "")) or str(error)).splitlines()[0]
            raise UserError(
                f"weights {layout} and {network} are no SSD that OpenCV can run ({reason[:160]}); "
                "get the files again, or check the kind of their registry entries"
            ) from None

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        return [self._find(crop) for crop in crops]

    def _find(self, crop: Picture) -> Faces:
        canvas, scale = fit(crop, self._input_px)
        rows = self._run(canvas)
        rows = rows[np.round(rows[:, 2], 3) >= np.float32(self._min_score)]
        if not len(rows):
            return NO_FACES
        boxes = rows[:, 3:7] * self._input_px
        return faces_of((boxes, rows[:, 2], np.full((len(rows), 5, 2), np.nan, np.float32)), scale, self._min_score)

    def _run(self, canvas: Picture) -> np.ndarray:
        """Return rows of picture, class, score, left, top, right, bottom, the last four as shares of the sides."""
        network = self._net()
        size = (self._input_px, self._input_px)
        network.setInput(cv2.dnn.blobFromImage(canvas, 1.0, size, MEAN, swapRB=True, crop=False))
        found = np.asarray(network.forward(), np.float32)
        if found.size % 7:
            raise ValueError(f"its output has {found.size} numbers, and 7 belong to each face")
        return found.reshape(-1, 7)

    def _load(self) -> cv2.dnn.Net:
        layout, network = self._layout.read_bytes(), self._network.read_bytes()
        reader = cv2.dnn.readNetFromTensorflow if b"node {" in layout else cv2.dnn.readNetFromCaffe
        first, second = (network, layout) if b"node {" in layout else (layout, network)
        return reader(np.frombuffer(first, np.uint8), np.frombuffer(second, np.uint8))
