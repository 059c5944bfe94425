"""The pictures of bodies that an estimator reads: one for each candidate whose body shows enough."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.boxes import Boxes
from pipeline.columns import flags, integers, reals, structs, vectors
from pipeline.cores.body_crops import cut_body
from pipeline.media.pictures import decode_jpeg, encode_jpeg

JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class FrameFaces:
    """The F faces of a chunk.

    frames: (F,) int64, index in the chunk.
    boxes: (F, 4) float32.
    """

    frames: NDArray[np.int64]
    boxes: Boxes


def no_bodies() -> pa.StructArray:
    """Return no items of rows.BODY."""
    return structs(rows.BODY, {}, 0)


def cut_bodies(
    candidates: pa.StructArray, detections: pa.StructArray, faces: FrameFaces, min_score: float
) -> pa.StructArray:
    """Return items of rows.BODY for the candidates that have a picture of the body, ordered by detection.

    The values of a body depend on its frame alone.

    min_score: lowest score of a box that hides others.
    """
    shown = integers(candidates, "detection")
    has_body = candidates.field("body").is_valid().to_numpy(zero_copy_only=False)
    corners = np.stack([reals(candidates, f"body_{axis}") for axis in "xy"], axis=1)
    scales = reals(candidates, "body_scale")
    frames, boxes, scores = integers(detections, "frame"), vectors(detections, "box", 4), reals(detections, "score")
    is_bodiless = flags(detections, "bodiless")
    kept: list[int] = []
    qualities: list[float] = []
    jpegs: list[bytes] = []
    for place in np.argsort(shown, kind="stable").tolist():
        detection = int(shown[place])
        if not has_body[place] or is_bodiless[detection]:
            continue
        frame = frames[detection]
        present = np.flatnonzero((frames == frame) & ~is_bodiless)
        picture = decode_jpeg(candidates.field("body")[place].as_py())
        cut = cut_body(
            boxes[present],
            scores[present],
            int(np.searchsorted(present, detection)),
            faces.boxes[faces.frames == frame],
            corners[place],
            float(scales[place]),
            (picture.shape[1], picture.shape[0]),
            min_score,
        )
        if cut is None:
            continue
        picture = picture.copy()
        for left, top, right, bottom in cut.black.tolist():
            picture[top:bottom, left:right] = 0
        left, top, right, bottom = cut.rest
        jpegs.append(encode_jpeg(picture[top:bottom, left:right], JPEG_QUALITY))
        qualities.append(round(float(scores[detection]) * cut.share, 3))
        kept.append(detection)
    columns = {
        "detection": pa.array(kept, pa.int32()),
        "frame": pa.array(frames[np.array(kept, np.int64)], pa.int32()),
        "quality": pa.array(qualities, pa.float32()),
        "picture": pa.array(jpegs, pa.large_binary()),
    }
    return structs(rows.BODY, columns, len(kept))
