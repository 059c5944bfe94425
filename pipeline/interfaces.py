"""The interfaces of models, as the rooms that call them see them. pipeline/models implements them.

Pictures and faces are uint8 RGB. The result for one picture, crop or face depends on it alone.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections, Estimates, Faces, Picture, PlacedPlanes, Planes
from pipeline.boxes import Boxes


class PersonDetector(Protocol):
    """Finds people in pictures.

    batch: number of pictures that it processes at once.
    """

    batch: int

    def __call__(self, pictures: Sequence[Picture], *, alone: bool = ...) -> list[Detections]:
        """Return the people of each (H, W, 3) picture, best first. alone: use batches of one."""
        ...


class BodyEmbedder(Protocol):
    """Embeds crops of people: similar clothes give similar vectors.

    batch: number of crops that it processes at once.
    """

    batch: int

    def crops(self, picture: Picture, boxes: Boxes) -> NDArray[np.uint8]:
        """Cut (N, 4) `boxes` out of `picture` and squash them to the network's input: (N, H, W, 3)."""
        ...

    def __call__(self, crops: NDArray[np.uint8], *, alone: bool = ...) -> NDArray[np.float32]:
        """Return (N, D) unit vectors for crops of `crops`. alone: use batches of one."""
        ...


class CardPixels(Protocol):
    """Reads people out of pictures whose planes lie in the memory of a device.

    embeds: whether it embeds bodies.
    """

    embeds: bool

    def holding(self, pictures: Sequence[Planes]) -> AbstractContextManager[Sequence[PlacedPlanes]]:
        """Keep pictures on the device during a block, which finds people in them."""
        ...

    def detect(self, pictures: Sequence[PlacedPlanes]) -> list[Detections]:
        """Return the people of each picture, best first. The pictures have one size."""
        ...

    def embed(self, pictures: Sequence[PlacedPlanes], boxes: Sequence[Boxes]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of the people in (N_i, 4) boxes of each picture, in this order."""
        ...

    def sharpness(
        self, pictures: Sequence[PlacedPlanes], boxes: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float64]]:
        """Return the (N_i,) sharpness of (N_i, 4) boxes in whole pixels inside each picture."""
        ...


class FaceDetector(Protocol):
    """Finds faces in crops or whole pictures. It also serves the quick face check, with another input size."""

    def __call__(self, crops: Sequence[Picture], /) -> list[Faces]:
        """Return the faces of each (H, W, 3) crop in the crop's pixels, best first."""
        ...


class FaceRestorer(Protocol):
    """Sharpens aligned faces."""

    def __call__(self, faces: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """Restore (N, 512, 512, 3) aligned faces: the same shape."""
        ...


class FaceEmbedder(Protocol):
    """Embeds aligned faces: the vectors of one person's faces lie close together."""

    def __call__(self, faces: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Return (N, D) unit vectors for (N, S, S, 3) aligned faces of any size S."""
        ...


class FaceAndBodyEstimator(Protocol):
    """Estimates age and gender of faces, bodies, or a face and the body of the same person.

    reads_bodies: True. Without this attribute, or with False, an estimator reads faces alone.
    """

    reads_bodies: bool

    def judge(self, faces: Sequence[Picture | None], bodies: Sequence[Picture | None]) -> Estimates:
        """Return the estimates for N people by an aligned face (S, S, 3), a body (H, W, 3) in which others are black,
        or both. One of them may be None."""
        ...


class AttributeEstimator(Protocol):
    """Estimates age and gender of aligned faces."""

    def __call__(self, faces: NDArray[np.uint8], /) -> Estimates:
        """Return the estimates for (N, S, S, 3) aligned faces of any size S."""
        ...
