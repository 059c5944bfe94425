"""Read people out of pictures whose planes lie in the memory of a device: find them, embed them, measure their crops.

The CPU sends numbers of a few bytes for each picture and person, and gets back candidates, vectors and sums.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Detections, PlacedPlanes, Planes
from pipeline.boxes import Boxes
from pipeline.models.batches import Batches, is_card
from pipeline.models.body_embedder import DIMENSIONS, BodyEmbedder, unit_vectors, whole_pixels
from pipeline.models.person_detector import GREY, PersonDetector
from pipeline.models.plane_kernels import (
    CODINGS,
    DETAIL_PX,
    DETAIL_SAMPLES,
    PART_COLUMNS,
    cut,
    detail_sums,
    letterbox,
)
from pipeline.models.plane_memory import PlaneMemory

READ_AT_ONCE = {False: 1 << 18, True: 1 << 25}
"""Whether the device is a card -> samples that a batch of crops takes whose detail is measured. Sums of whole numbers
do not depend on it."""
MOST_CROPS = 256
"""Most crops in such a batch."""


class CardPixels:
    """The detector and the embedder of people on pictures in `memory`.

    embedder: None if bodies are not embedded here.
    """

    def __init__(self, memory: PlaneMemory, detector: PersonDetector, embedder: BodyEmbedder | None) -> None:
        self._memory, self._detector, self._embedder = memory, detector, embedder
        device = memory.planes.device
        self.embeds = embedder is not None
        self._finding = Batches(self._candidates, device=device, keep=detector.anchors)
        self._embedding = Batches(self._vectors, device=device)
        self._measuring = Batches(self._sums, device=device)
        self._read_at_once = READ_AT_ONCE[is_card(device)]

    def holding(self, pictures: Sequence[Planes]) -> AbstractContextManager[list[PlacedPlanes]]:
        """Keep pictures on the device during a block."""
        return self._memory.holding(pictures)

    def detect(self, pictures: Sequence[PlacedPlanes]) -> list[Detections]:
        """Return the people of each picture, best first. The pictures have one size."""
        if not pictures:
            return []
        height, width = pictures[0].planes.y.shape
        fit = self._detector.fit(width, height)
        whole = [np.array([[0, 0, width, height]])] * len(pictures)
        (candidates,) = _run(
            self._finding, self._detector.batch, _parts(pictures, whole), *fit.inner, *fit.outer, *fit.corner
        )
        return [self._detector.detections(each, fit) for each in candidates]

    def embed(self, pictures: Sequence[PlacedPlanes], boxes: Sequence[Boxes]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of the people in (N_i, 4) boxes of each picture, in this order."""
        assert self._embedder is not None
        corners = [
            whole_pixels(some, each.planes.y.shape[1], each.planes.y.shape[0])
            for each, some in zip(pictures, boxes, strict=True)
        ]
        parts = _parts(pictures, corners)
        if not len(parts):
            return np.zeros((0, DIMENSIONS), np.float32)
        (vectors,) = _run(self._embedding, self._embedder.batch, parts)
        return unit_vectors(vectors)

    def sharpness(
        self, pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float64]]:
        """Return what `media.crops.sharpness` measures on (N_i, 4) boxes in whole pixels inside each picture."""
        parts = _parts(pictures, boxes)
        if not len(parts):
            return [np.zeros(0)] * len(pictures)
        variances = np.zeros(len(parts))
        longest, measured_px = parts[:, 6:].max(axis=1), 0
        for most_px, num_samples in DETAIL_SAMPLES:
            places = np.flatnonzero((longest > measured_px) & (longest <= (most_px or longest.max())))
            measured_px = most_px or 0
            if len(places):
                size = min(MOST_CROPS, max(1, self._read_at_once // (DETAIL_PX * num_samples) ** 2))
                (sums,) = _run(self._measuring, size, parts[places], num_samples)
                variances[places] = [
                    (count * square - total * total) / (count * count) for count, total, square in sums.tolist()
                ]
        measured = np.round(variances, 1)
        return np.split(measured, np.cumsum([len(some) for some in boxes])[:-1])

    def _candidates(self, parts: Tensor, inner_x: int, inner_y: int, x: int, y: int, left: int, top: int) -> Tensor:
        inner, outer, corner = (inner_x, inner_y), (x, y), (left, top)
        samples = letterbox(self._memory.planes, self._memory.factors, parts, inner, outer, corner, GREY)
        return self._detector.candidates(samples)

    def _vectors(self, parts: Tensor) -> Tensor:
        assert self._embedder is not None
        size = self._embedder.height, self._embedder.width
        return self._embedder.vectors(cut(self._memory.planes, self._memory.factors, parts, *size))

    def _sums(self, parts: Tensor, num_samples: int) -> Tensor:
        return detail_sums(self._memory.planes, self._memory.factors, parts, num_samples)


def _parts(pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return (N, 8) parts, as plane_kernels has them, for (N_i, 4) boxes of each picture in whole pixels inside it."""
    parts = np.zeros((sum(map(len, boxes)), PART_COLUMNS), np.int64)
    row = 0
    for picture, some in zip(pictures, boxes, strict=True):
        planes, rows = picture.planes, parts[row : row + len(some)]
        coding = CODINGS.index((planes.matrix, planes.is_full))
        rows[:, :4] = picture.start, coding, planes.y.shape[1], planes.y.shape[0]
        rows[:, 4:6], rows[:, 6:] = some[:, :2], np.maximum(some[:, 2:] - some[:, :2], 0)
        row += len(some)
    return parts


def _run(batches: Batches, size: int, parts: NDArray[np.int64], *numbers: int) -> list[NDArray[Any]]:
    """Run (N, 8) parts, N > 0, in batches of one size. Return N rows of each output."""
    outputs = []
    for start in range(0, len(parts), size):
        some = parts[start : start + size]

        def write(rows: NDArray[Any], first: int, some: NDArray[np.int64] = some) -> None:
            rows[:] = some[first : first + len(rows)]

        outputs.append(batches.run((size, PART_COLUMNS), np.int64, write, len(some), *numbers))
    return [np.concatenate(rows) for rows in zip(*outputs, strict=True)]
