"""Outputs of many tiny videos, written without the pipeline."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.storage import records, tables
from pipeline.storage.store import Store


def video_row(video_id: str, **values: Any) -> dict[str, Any]:
    """Return the row of `videos` for a finished video."""
    row = dict.fromkeys(rows.DATASETS["videos"].names)
    row |= {"video_id": video_id, "uri": f"/in/{video_id}.mp4", "status": "done", "config_id": "c", "num_persons": 1}
    return row | {"width": 64, "height": 48, "fps": 25.0, "num_frames": 1, "num_analysed": 1, "num_shots": 1} | values


def video_tables(video_id: str, version: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a video with one person in one frame. `version` is the person's age and the detector's
    score."""
    box = {"bb_xmin": 1.0, "bb_ymin": 2.0, "bb_height": 30.0, "bb_width": 10.0}
    ids = {"video_id": video_id, "person_id": 1}
    return {
        "persons": [ids | {"age": float(version), "gender": "F", "num_frames": 1}],
        "detections": [ids | {"frame_num": 1, "tracklet_id": 1, "score": float(version)} | box],
    }


def encode(dataset: str, table_rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a file of a dataset."""
    if not table_rows:
        return _empty(dataset)
    schema, file = rows.DATASETS[dataset], io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in table_rows], schema=schema), file)
    return file.getvalue()


@cache
def _empty(dataset: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(rows.DATASETS[dataset].empty_table(), file)
    return file.getvalue()


def publish_steps(store: Store, video_id: str, version: int, **values: Any) -> Iterator[None]:
    """Publish a video as `process` does, one file at a step: the old row is withdrawn first, the new one is last."""
    records.hide_video(store, video_id)
    yield
    content = video_tables(video_id, version)
    for name in rows.VIDEO_TABLES:
        store.put(f"{name}/{video_id}.parquet", encode(name, content.get(name, [])))
        yield
    records.write_video(store, video_row(video_id, duration_s=float(version), **values))
    yield


def write_output(store: Store, video_ids: Sequence[str]) -> Store:
    """Write an output in which each video has version 0."""
    tables.create(store, keep_biometrics=False)
    for video_id in video_ids:
        content = video_tables(video_id) | {"videos": [video_row(video_id, duration_s=0.0)]}
        for name in (*rows.VIDEO_TABLES, "videos"):
            store.put(f"{name}/{video_id}.parquet", encode(name, content.get(name, [])))
    return store
