"""Facts of single detections, looked up in the durable chunks when the rows of a window are written."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import items_of
from pipeline.cores.fill import Rows
from pipeline.video.blocks import BoxRows, TrackingResult
from pipeline.video.job import VideoChunks


def observed_columns(
    job: VideoChunks, names: Sequence[str], rows: Rows, tracked: TrackingResult, boxes: BoxRows
) -> dict[str, pa.Array]:
    """Return columns of rows.DETECTION for the rows of one window. Interpolated rows are null.

    rows: of the window.
    boxes: rows of the blocks in the frames of the window.
    """
    tracklets = tracked.tracklets(boxes)
    boxes, tracklets = boxes[tracklets >= 0], tracklets[tracklets >= 0]
    keys = boxes["frame"] * (len(tracked) + 1) + tracklets
    order = np.argsort(keys)
    is_tracked = ~rows.interpolated
    wanted = (rows.frames * (len(tracked) + 1) + rows.tracklets)[is_tracked]
    sources = boxes[order[np.searchsorted(keys[order], wanted)]]
    places = np.zeros(len(rows), np.int64)
    places[is_tracked] = np.argsort(np.lexsort((sources["detection"], sources["chunk"])))
    indices = pa.array(places, mask=rows.interpolated)
    return {name: _read(job, name, sources).take(indices) for name in names}


def _read(job: VideoChunks, name: str, sources: NDArray[np.void]) -> pa.Array:
    """Return a field of some detections, ordered by chunk, then detection."""
    parts = []
    for chunk in np.unique(sources["chunk"]).tolist():
        table = job.ledger.observed(job.video_id, job.chunks[chunk], [f"detections.list.element.{name}"])
        detections = np.sort(sources["detection"][sources["chunk"] == chunk])
        parts.append(items_of(table, "detections").field(name).take(pa.array(detections)))
    return pa.concat_arrays(parts) if parts else pa.nulls(0)
