"""The values that cores and models exchange: numpy, structures of arrays, frozen.

Pictures are (H, W, 3) uint8 RGB everywhere. A model that was trained on another order converts them itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Planes:
    """A displayed picture as its decoder puts it out: 8-bit 4:2:0 planes.

    y: (H, W) uint8. Brightness.
    u, v: (ceil(H / 2), ceil(W / 2)) uint8. Colour. A value belongs to two by two pixels.
    matrix: ITU-T H.273 code of the colours: 1 (BT.709), 6 (BT.601) or 9 (BT.2020).
    is_full: brightness is coded as 0..255, not as 16..235.
    to_rgb: returns the picture as (H, W, 3) uint8 RGB. Only one thread may call it.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    matrix: int
    is_full: bool
    to_rgb: Callable[[], Picture]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape that the picture has as RGB."""
        return (*self.y.shape, 3)

    @property
    def num_bytes(self) -> int:
        """The bytes of the three planes."""
        return self.y.size + self.u.size + self.v.size

    def write(self, memory: NDArray[np.uint8]) -> None:
        """Write the planes one after the other, row after row, into (num_bytes,) memory."""
        start = 0
        for plane in (self.y, self.u, self.v):
            memory[start : start + plane.size].reshape(plane.shape)[:] = plane
            start += plane.size


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPlanes:
    """A picture whose planes lie in the memory of a device.

    start: bytes of that memory before them.
    """

    planes: Planes
    start: int


@dataclass(frozen=True, slots=True)
class Detections:
    """People in one picture, best first.

    boxes: (N, 4) float32 xyxy px of the displayed picture, rounded to 0.1.
    scores: (N,) float32 in [0, 1], rounded to 0.001.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,):
            raise ValueError(f"boxes, scores must be (N, 4), (N,), got {self.boxes.shape}, {self.scores.shape}")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Self:
        return type(self)(self.boxes[index], self.scores[index])


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces in one picture, best first, in the picture's pixels.

    boxes: (N, 4) float32 xyxy.
    scores: (N,) float32 in [0, 1].
    landmarks: (N, 5, 2) float32. Left eye, right eye, nose, left and right corner of the mouth, as seen in the
        picture.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.landmarks.shape != (n, 5, 2):
            raise ValueError(
                f"boxes, landmarks must be ({n}, 4), ({n}, 5, 2), got {self.boxes.shape}, {self.landmarks.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Self:
        return type(self)(self.boxes[index], self.scores[index], self.landmarks[index])


@dataclass(frozen=True, slots=True)
class Estimates:
    """Age and gender of N faces.

    ages: (N,) float32 years, rounded to 0.1. nan where there is none.
    age_stds: (N,) float32 years. Expected standard error of each age.
    female_probs: (N,) float32 in [0, 1], rounded to 0.001. nan where there is none.
    age_dists: (N, 12) float32, rounded to 0.001. Probabilities of the groups of cores.age_dist. None if the estimator
        has no distribution.
    age_leans: (N,) float32, rounded to 0.01. How far the 80 % interval of each age leans to older ages, in -1..1:
        cores.vote.age_interval. None if the intervals are symmetric.
    """

    ages: NDArray[np.float32]
    age_stds: NDArray[np.float32]
    female_probs: NDArray[np.float32]
    age_dists: NDArray[np.float32] | None = None
    age_leans: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Quantised:
    """N embeddings as int8 with one scale each. They take a quarter of the space, and the tracks stay the same.

    codes: (N, D) int8.
    scales: (N,) float32. A vector is codes * scale.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Self:
        """Quantise (N, D) vectors. The largest component of each becomes ±127."""
        largest = np.abs(vectors).max(axis=1, initial=0)
        scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return cls(np.rint(vectors / scales[:, None]).astype(np.int8), scales)

    def vectors(self) -> NDArray[np.float32]:
        """Return (N, D) float32 unit vectors."""
        vectors = self.codes.astype(np.float32) * self.scales[:, None]
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def unit_vector(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a (D,) vector with length one. A zero vector stays zero."""
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else vector).astype(np.float32)
