"""Write the embeddings of a published video, and the summaries that later files of its sequence need."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import lists, make_table, unit_vectors
from pipeline.cores.link.tracklets import Tracklet
from pipeline.storage import tables
from pipeline.storage.ledger import summary_name
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.faces import VideoFaces, faces_of
from pipeline.video.job import VideoChunks
from pipeline.video.left_out import LeftOut
from pipeline.video.timeline import Timeline

ROWS_OF_VECTORS = 1024
"""Number of embeddings that are written at a time."""


def write_embeddings(
    store: Store,
    job: VideoChunks,
    tracked: TrackingResult,
    faces: VideoFaces,
    tracklet_ids: NDArray[np.int64],
    left_out: LeftOut,
) -> None:
    """Write `embeddings` if biometrics are kept. Otherwise remove those that an earlier publication kept."""
    name = f"embeddings/{job.video_id}.parquet"
    if job.config.biometrics.keep:
        parts = _embeddings(job, tracked, faces, tracklet_ids)
        left = (left_out.without("embeddings", part) for part in parts)
        tables.write(store, name, rows.BIOMETRIC_DATASETS["embeddings"], left)
    else:
        store.delete(name)


def write_summaries(
    store: Store, job: VideoChunks, timeline: Timeline, tracklets: Sequence[Tracklet], left_out: LeftOut
) -> None:
    """Write the summaries of the tracklets if they may be needed. Otherwise remove those of an earlier publication.

    tracklets: by tracklet_id.
    """
    name = summary_name(job.video_id)
    if job.config.biometrics.keep or job.in_sequence:
        summaries = make_table(rows.SUMMARY, _summary_columns(job, timeline, tracklets))
        tables.write(store, name, rows.SUMMARY, [left_out.without("summaries", summaries)])
    else:
        store.delete(name)


def _embeddings(
    job: VideoChunks, tracked: TrackingResult, faces: VideoFaces, tracklet_ids: NDArray[np.int64]
) -> Iterator[pa.Table]:
    """Yield the rows of `embeddings`. Each tracklet has one body vector, the mean. Each judged face has one face
    vector."""

    def table(kind: str, on: Sequence[int | None], frames: Sequence[int | None], vectors: NDArray[Any]) -> pa.Table:
        columns: dict[str, Any] = {
            "video_id": [job.video_id] * len(on),
            "tracklet_id": on,
            "frame_num": frames,
            "kind": [kind] * len(on),
            "space": [job.spaces.get(kind)] * len(on),
            "vector": lists(vectors),
        }
        return make_table(rows.BIOMETRIC_DATASETS["embeddings"], columns)

    order = np.argsort(tracklet_ids)
    order = order[~np.isnan(tracked.bodies[order]).any(axis=1)] if tracked.bodies.shape[1] else order[:0]
    for start in range(0, len(order), ROWS_OF_VECTORS):
        some = order[start : start + ROWS_OF_VECTORS]
        yield table("body", tracklet_ids[some].tolist(), [None] * len(some), tracked.bodies[some])
    for chunk in range(len(job.chunks)):
        vectors = unit_vectors(faces_of(job, chunk))
        if vectors is None:
            continue
        first = int(np.searchsorted(faces.chunks, chunk))
        shown = np.flatnonzero(vectors.any(axis=1))
        shown = shown[np.argsort(faces.frames[first + shown], kind="stable")]
        on = [int(tracklet_ids[i]) if i >= 0 else None for i in faces.tracklets[first + shown]]
        yield table("face", on, (faces.frames[first + shown] + 1).tolist(), vectors[shown])


def _summary_columns(job: VideoChunks, timeline: Timeline, tracklets: Sequence[Tracklet]) -> dict[str, Any]:
    columns: dict[str, Any] = {"tracklet_id": np.arange(1, len(tracklets) + 1)}
    for name in ("head_ns", "head_boxes", "tail_ns"):
        columns[name] = [getattr(tracklet, name).tolist() for tracklet in tracklets]
    columns["tail_boxes"] = [timeline.steady.at_end(tracklet.tail_boxes).tolist() for tracklet in tracklets]
    columns["head_cut_off"], columns["tail_cut_off"] = (
        [tracklet.cut_off[end] for tracklet in tracklets] for end in (0, 1)
    )
    for kind in ("body", "face"):
        vectors = [getattr(tracklet, kind) for tracklet in tracklets]
        columns[kind] = [None if vector is None else vector.tolist() for vector in vectors]
        columns[f"{kind}_space"] = [job.spaces.get(kind)] * len(tracklets)
    return columns
