"""A queue of crops of people that are embedded in full batches."""

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Quantised
from pipeline.interfaces import BodyEmbedder


class EmbeddingQueue:
    """Embeds crops as soon as a batch is full, so that only the last batch of a chunk is padded. It also takes vectors
    that were made elsewhere."""

    def __init__(self, embedder: BodyEmbedder | None, alone: bool) -> None:
        self._embedder = embedder
        self._alone = alone
        self._detections: list[NDArray[np.int64]] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._codes: list[NDArray[np.int8]] = []
        self._scales: list[NDArray[np.float32]] = []
        self._embedded: list[tuple[NDArray[np.int64], Quantised]] = []

    def add(self, detections: NDArray[np.int64], crops: NDArray[np.uint8]) -> None:
        """Queue (N, 256, 128, 3) `crops` of the (N,) `detections`."""
        if len(crops):
            self._detections.append(detections)
            self._waiting.append(crops)
            self._run(to_the_last=False)

    def add_vectors(self, detections: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take the (N, D) unit vectors of the (N,) `detections`."""
        if len(detections):
            self._embedded.append((detections, Quantised.of(vectors)))

    def close(self) -> tuple[NDArray[np.int64], Quantised]:
        """Embed the waiting crops. Return the (N,) ascending detections that have embeddings, and the N embeddings."""
        self._run(to_the_last=True)
        detections = np.concatenate([np.zeros(0, np.int64), *self._detections, *(who for who, _ in self._embedded)])
        if not len(detections):
            return detections, Quantised(np.zeros((0, 0), np.int8), np.zeros(0, np.float32))
        order = np.argsort(detections, kind="stable")
        codes = np.concatenate([*self._codes, *(embedded.codes for _, embedded in self._embedded)])
        scales = np.concatenate([*self._scales, *(embedded.scales for _, embedded in self._embedded)])
        return detections[order], Quantised(codes[order], scales[order])

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
