"""A queue of crops of people that are embedded in full batches."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Quantised
from pipeline.interfaces import BodyEmbedder
from pipeline.models.threads import ModelThreads

BATCHES_WAITING = 4
"""Most batches of a span that wait for a thread or are in work, with 3 MB each for 32 crops."""


class EmbeddingQueue:
    """Embeds crops as soon as a batch is full, so that only the last batch of a chunk is padded. It also takes vectors
    that were made elsewhere.

    alone: use batches of one.
    threads: run the embedder. None if the caller's thread does.
    """

    def __init__(self, embedder: BodyEmbedder | None, alone: bool, threads: ModelThreads | None = None) -> None:
        self._embedder, self._alone, self._threads = embedder, alone, threads
        self._detections: list[NDArray[np.int64]] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._batches: list[Callable[[], Quantised]] = []
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
        vectors = [*(batch() for batch in self._batches), *(embedded for _, embedded in self._embedded)]
        codes, scales = (np.concatenate([getattr(each, part) for each in vectors]) for part in ("codes", "scales"))
        return detections[order], Quantised(codes[order], scales[order])

    def _run(self, *, to_the_last: bool) -> None:
        waiting = sum(map(len, self._waiting))
        if self._embedder is None or not waiting:
            return
        ready = waiting if to_the_last else waiting - waiting % self._embedder.batch
        if ready:
            crops = np.concatenate(self._waiting)
            self._batches.append(self._embed(self._embedder, crops[:ready]))
            self._waiting = [crops[ready:]] if ready < waiting else []

    def _embed(self, embedder: BodyEmbedder, crops: NDArray[np.uint8]) -> Callable[[], Quantised]:
        """Begin to embed crops. Return the function that waits for the vectors."""

        def embed() -> Quantised:
            return Quantised.of(embedder(crops, alone=self._alone))

        if self._threads is None:
            vectors = embed()
            return lambda: vectors
        if len(self._batches) >= BATCHES_WAITING:
            self._batches[-BATCHES_WAITING]()  # wait for it
        return self._threads.submit(embed).result
