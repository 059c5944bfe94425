"""A queue of crops of people that are embedded in full batches."""

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Quantised
from pipeline.interfaces import BodyEmbedder


class EmbeddingQueue:
    """Embeds crops as soon as a batch is full, so that only the last batch of a chunk is padded."""

    def __init__(self, embedder: BodyEmbedder | None, alone: bool) -> None:
        self._embedder = embedder
        self._alone = alone
        self._detections: list[NDArray[np.int64]] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._codes: list[NDArray[np.int8]] = []
        self._scales: list[NDArray[np.float32]] = []

    def add(self, detections: NDArray[np.int64], crops: NDArray[np.uint8]) -> None:
        """Queue (N, 256, 128, 3) `crops` of the (N,) `detections`."""
        if len(crops):
            self._detections.append(detections)
            self._waiting.append(crops)
            self._run(to_the_last=False)

    def close(self) -> tuple[NDArray[np.int64], Quantised]:
        """Embed the waiting crops. Return the (N,) detections that have embeddings, and the N embeddings."""
        self._run(to_the_last=True)
        if not self._codes:
            return np.zeros(0, np.int64), Quantised(np.zeros((0, 0), np.int8), np.zeros(0, np.float32))
        return np.concatenate(self._detections), Quantised(np.concatenate(self._codes), np.concatenate(self._scales))

    def _run(self, *, to_the_last: bool) -> None:
        waiting = sum(map(len, self._waiting))
        if self._embedder is None or not waiting:
            return
        ready = waiting if to_the_last else waiting - waiting % self._embedder.batch
        if ready:
            crops = np.concatenate(self._waiting)
            embedded = Quantised.of(self._embedder(crops[:ready], alone=self._alone))
            self._codes.append(embedded.codes)
            self._scales.append(embedded.scales)
            self._waiting = [crops[ready:]] if ready < waiting else []
