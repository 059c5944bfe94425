"""The aligned pictures of a chunk's judged faces: JPEGs, ordered by face."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Picture
from pipeline.columns import structs
from pipeline.media.pictures import decode_jpeg

ALIGNED_PX, RESTORED_PX = 224, 512
"""Side of the pictures that are stored, and of those that are restored."""
JPEG_QUALITY = 95


def aligned_items(faces: NDArray[np.int64], jpegs: Sequence[bytes]) -> pa.StructArray:
    """Return rows.ALIGNED items in the order of their (N,) faces. Pictures of one face keep the given order."""
    order = np.argsort(faces, kind="stable")
    pictures = pa.array([jpegs[index] for index in order], pa.large_binary())
    return structs(rows.ALIGNED, {"face": pa.array(faces[order], pa.int32()), "picture": pictures}, len(order))


def decode_pictures(aligned: pa.StructArray, indices: NDArray[np.int64]) -> list[Picture]:
    """Return the pictures of the items with these (N,) indices."""
    return [decode_jpeg(jpeg) for jpeg in aligned.field("picture").take(pa.array(indices)).to_pylist()]


def blocks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions 0 … count in blocks of `size`. A model takes one block at a time, so that few pictures are
    in memory."""
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))
