"""Stage restore_faces: restore the pictures of those judged faces of a chunk that find_faces chose for it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.boxes import Boxes, pairwise_iou
from pipeline.chunk.aligned import ALIGNED_PX, JPEG_QUALITY, aligned_items, blocks, decode_pictures
from pipeline.columns import extend_each, flags, integers, items_of
from pipeline.config import Config, Restore, fixed
from pipeline.interfaces import FaceRestorer
from pipeline.media.faces import resize_face
from pipeline.media.pictures import encode_jpeg
from pipeline.weights import Registry

NEEDS = rows.join(rows.FACES, rows.ALIGNED_FACES)
ADDS = rows.ALIGNED_FACES
SAME_PLACE_IOU = 0.5
"""Least overlap of the boxes of two faces of one cell that count as one person's. Faces of one frame overlap less."""


def build(config: Config, registry: Registry) -> "RestoreFaces":
    """Return the core of the stage with its model."""
    from pipeline.models.loading import Loader

    load = Loader(config, registry, fixed(config.run.face_spans))
    return load.together(RestoreFaces(config, load.restorer()))


class RestoreFaces:
    """Adds a restored picture after the picture of every face that find_faces chose (`restored`).

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
        aligned, restored = items_of(chunk, "aligned"), flags(items_of(chunk, "faces"), "restored")
        if self._restorer is None or not restored.any():
            return {"aligned": aligned}

        face_by_picture = integers(aligned, "face")
        plain = np.flatnonzero(~restored[face_by_picture])
        soft = np.flatnonzero(restored[face_by_picture])
        owners, jpegs = [face_by_picture[plain]], [aligned.field("picture").take(pa.array(plain)).to_pylist()]
        for block in blocks(len(soft), fixed(self._config.restore.batch)):
            indices = soft[block]
            before = decode_pictures(aligned, indices)
            pairs = zip(before, self._restorer(np.stack(before)), strict=True)
            pictures = [resize_face(picture, ALIGNED_PX) for pair in pairs for picture in pair]
            owners.append(np.repeat(face_by_picture[indices], 2))
            jpegs.append([encode_jpeg(picture, JPEG_QUALITY) for picture in pictures])
        return {"aligned": aligned_items(np.concatenate(owners), [jpeg for block in jpegs for jpeg in block])}


def faces_to_restore(
    restore: Restore,
    is_judged: NDArray[np.bool_],
    cells: NDArray[np.int64],
    chains: NDArray[np.int64],
    boxes: Boxes,
    qualities: NDArray[np.float64],
    eye_distances_px: NDArray[np.float64],
    sharpness: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which of N faces are restored, as (N,) bool.

    With every_cells above 1, a person has at most one restored face in a cell, the best one. The next one a moment
    later would say nearly the same, and costs as much (docs/decisions/0051-one-restored-face-of-a-cell.md).

    chains: (N,) equal for faces of one person in a cell. A person whose box changes has several. So faces of a cell in
        one place (SAME_PLACE_IOU) count as one person's, too.
    boxes: (N, 4) of the faces.
    qualities: (N,) in steps of 0.001. Of equal faces, the earlier one counts as better.
    """
    if restore.mode == "off":
        return np.zeros(len(cells), bool)
    chosen = is_judged & (cells % restore.every_cells == 0)
    if restore.every_cells > 1:
        best: list[int] = []
        for face in np.lexsort((-qualities, ~chosen))[: chosen.sum()].tolist():
            rivals = [other for other in best if cells[other] == cells[face]]
            is_near = np.round(pairwise_iou(boxes[[face]], boxes[rivals]), 3) >= SAME_PLACE_IOU
            if chains[face] not in chains[rivals] and not is_near.any():
                best.append(face)
        chosen = np.isin(np.arange(len(cells)), best)
    is_poor = (eye_distances_px < restore.below_eye_distance_px) | (np.round(sharpness, 1) < restore.below_sharpness)
    return chosen & (is_poor | (restore.mode == "always"))
