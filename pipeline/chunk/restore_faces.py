"""Stage restore_faces: restore the pictures of those judged faces of a chunk that the configuration wants restored."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.chunk.aligned import ALIGNED_PX, JPEG_QUALITY, aligned_items, blocks, decode_pictures
from pipeline.columns import extend_each, flags, integers, items_of, reals, vectors, with_columns
from pipeline.config import Config, fixed
from pipeline.cores import gate
from pipeline.interfaces import FaceRestorer
from pipeline.media.faces import resize_face
from pipeline.media.pictures import encode_jpeg
from pipeline.weights import Registry

NEEDS = rows.join(rows.FRAMES, rows.FACES, rows.ALIGNED_FACES)
ADDS = rows.join(rows.FACES, rows.ALIGNED_FACES)


def build(config: Config, registry: Registry) -> "RestoreFaces":
    """Return the core of the stage with its model."""
    from pipeline.models.loading import Loader

    load = Loader(config, registry, fixed(config.run.face_spans))
    return load.together(RestoreFaces(config, load.restorer()))


class RestoreFaces:
    """Adds a restored picture after the picture of every judged face that the configuration wants restored.

    `aligned` then holds two pictures of that face. The first is the original, which alone serves identity. The
    second is the restored one.
    """

    def __init__(self, config: Config, restorer: FaceRestorer | None) -> None:
        if config.restore.mode != "off" and restorer is None:
            raise ValueError(f"restore.mode {config.restore.mode} must have a restorer, got None")
        self._config = config
        self._restorer = restorer

    def __call__(self, chunks: pa.Table) -> pa.Table:
        return extend_each(chunks, self._restore, ADDS)

    def _restore(self, chunk: pa.Table) -> dict[str, pa.Array]:
        faces, aligned, frames = items_of(chunk, "faces"), items_of(chunk, "aligned"), items_of(chunk, "frames")
        pose = gate.read_pose(vectors(faces, "box", 4), vectors(faces, "landmarks", 10).reshape(-1, 5, 2))
        cells = integers(frames, "cell")[integers(faces, "frame")]
        sharpness = reals(faces, "sharpness")
        wanted = wants_restoration(self._config, cells, pose.eye_distances_px, sharpness)
        restored = flags(faces, "judged") & wanted
        if self._restorer is None or not restored.any():
            return {"faces": faces, "aligned": aligned}

        face_by_picture = integers(aligned, "face")
        plain = np.flatnonzero(~restored[face_by_picture])
        soft = np.flatnonzero(restored[face_by_picture])
        owners, jpegs = [face_by_picture[plain]], [aligned.field("picture").take(pa.array(plain)).to_pylist()]
        for block in blocks(len(soft), self._config.restore.batch):
            indices = soft[block]
            before = decode_pictures(aligned, indices)
            pairs = zip(before, self._restorer(np.stack(before)), strict=True)
            pictures = [resize_face(picture, ALIGNED_PX) for pair in pairs for picture in pair]
            owners.append(np.repeat(face_by_picture[indices], 2))
            jpegs.append([encode_jpeg(picture, JPEG_QUALITY) for picture in pictures])
        return {
            "faces": with_columns(faces, restored=pa.array(restored)),
            "aligned": aligned_items(np.concatenate(owners), [jpeg for block in jpegs for jpeg in block]),
        }


def wants_restoration(
    config: Config, cells: NDArray[np.int64], eye_distances_px: NDArray[np.float64], sharpness: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which of N judged faces are restored, as (N,) bool."""
    restore = config.restore
    if restore.mode == "off":
        return np.zeros(len(cells), bool)
    is_poor = (eye_distances_px < restore.below_eye_distance_px) | (np.round(sharpness, 1) < restore.below_sharpness)
    return (cells % restore.every_cells == 0) & (is_poor | (restore.mode == "always"))
