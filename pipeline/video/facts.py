"""The facts about a video before its persons are known: the rows of its tables without the columns about persons."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import boxes as boxes_of
from pipeline.columns import ids_or_null, integers, make_table, reals, reals_or_null, vectors_or_nan, vectors_or_null
from pipeline.cores.age_dist import GROUPS
from pipeline.cores.fill import rows_between
from pipeline.cores.likeness import Likenesses
from pipeline.video.blocks import BlockReader, TrackingResult
from pipeline.video.faces import VideoFaces
from pipeline.video.job import VideoChunks
from pipeline.video.likenesses import likeness_table
from pipeline.video.observed import observed_columns
from pipeline.video.timeline import Timeline
from pipeline.video.tracklets import Summaries
from pipeline.video.windows import fill_ns, frames_of_shots, windows

COPIED_TO_DETECTIONS = ("age_low", "age_high", "age_why_not", "gender_why_not")
"""The columns that `detections` copies unchanged from `persons`, besides gender and those of five_year_group."""
PERSON_COLUMNS = ("person_id", "age_min", "age_max", "age_actual", "gender", *COPIED_TO_DETECTIONS)
"""The columns of `detections`, `tracklets` and `faces` that identify or describe a person."""
FACE_DIGITS = {"score": 3, "quality": 3, "age": 1, "age_std": 1, "age_lean": 2, "female_prob": 3}
"""Digits behind the point of the columns of `faces`."""


def facts_schema(dataset: str) -> pa.Schema:
    """Return the schema of a dataset without the columns about persons."""
    return pa.schema([field for field in rows.DATASETS[dataset] if field.name not in PERSON_COLUMNS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a video before its persons are known. Its T tracklets are numbered from 1 by first appearance.
    A number is missing if its tracklet is that of a forgotten person.

    All tables lack the columns PERSON_COLUMNS.

    video_id: id of the content.
    shots: the rows of `shots`.
    tracklets: the rows of `tracklets`, by tracklet_id.
    faces: the rows of `faces`.
    detections: returns the rows of `detections` in order of frames, in tables of some whole frames each.
    likenesses: the rows of `likenesses`.
    num_analysed: number of frames that the detector processed.
    size: width and height of the displayed picture in px.
    """

    video_id: str
    shots: pa.Table
    tracklets: pa.Table
    faces: pa.Table
    detections: Callable[[], Iterable[pa.Table]]
    likenesses: pa.Table
    num_analysed: int
    size: tuple[int, int]

    @property
    def tracklet_ids(self) -> NDArray[np.int64]:
        """The (T,) ids of the tracklets, ascending."""
        return integers(self.tracklets, "tracklet_id")

    def by_tracklet(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (T,) values of the tracklets by id. The value of 0, no tracklet, is 0."""
        ids = self.tracklet_ids
        by_id = np.zeros(ids.max(initial=0) + 1, np.int64)
        by_id[ids] = values
        return by_id


def collect_facts(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    boxes: BlockReader,
    faces: VideoFaces,
    tracklets: Summaries,
    likenesses: Likenesses,
) -> Facts:
    def table(dataset: str, columns: Mapping[str, Any], num_rows: int) -> pa.Table:
        return make_table(facts_schema(dataset), {"video_id": [job.video_id] * num_rows} | dict(columns))

    starts, ends = np.array(shots, np.int64).T
    numbered = np.arange(1, len(shots) + 1)
    times = {"shot": numbered, "start_s": timeline.seconds(starts), "end_s": timeline.seconds(ends)}
    return Facts(
        video_id=job.video_id,
        shots=table("shots", times, len(shots)),
        tracklets=table("tracklets", *_tracklet_columns(timeline, tracked, faces, tracklets)),
        faces=table("faces", *_face_columns(faces, tracklets.ids)),
        detections=lambda: _detections(job, timeline, shots, tracked, boxes, tracklets.ids),
        likenesses=likeness_table(job.video_id, likenesses, job.spaces),
        num_analysed=int(timeline.analysed.sum()),
        size=(timeline.width, timeline.height),
    )


def _detections(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    boxes: BlockReader,
    ids: NDArray[np.int64],
) -> Iterator[pa.Table]:
    """Yield the rows of `detections`, one window of frames at a time.

    A column that is not made here is copied from the field of that name of rows.DETECTION.
    """
    schema = facts_schema("detections")
    for shot, frames in frames_of_shots(timeline, shots):
        for start, end, knots in windows(job, frames, tracked, boxes):
            window = rows_between(knots, frames, fill_ns(job), start, end)
            columns: dict[str, Any] = {
                "video_id": [job.video_id] * len(window),
                "frame_num": window.frames + 1,
                "time_s": timeline.seconds(window.frames),
                "shot": np.full(len(window), shot + 1),
                "tracklet_id": ids[window.tracklets],
                "score": reals_or_null(np.round(window.scores.astype(np.float64), 3)),
                "interpolated": window.interpolated,
            }
            columns |= _box_columns(window.boxes)
            if copied := [name for name in schema.names if name not in columns]:
                columns |= observed_columns(job, copied, window, tracked, boxes.between(start, end))
            yield make_table(schema, columns)


def _tracklet_columns(
    timeline: Timeline, tracked: TrackingResult, faces: VideoFaces, tracklets: Summaries
) -> tuple[dict[str, Any], int]:
    order = np.argsort(tracklets.ids)
    first, last, num_frames = _extent(tracklets.runs, len(order))
    on = faces.tracklets[faces.judged & (faces.tracklets >= 0)]
    columns = {
        "tracklet_id": tracklets.ids[order],
        "shot": tracked.shots[order] + 1,
        "start_s": timeline.seconds(first[order]),
        "end_s": timeline.seconds(last[order]),
        "num_frames": num_frames[order],
        "num_faces": np.bincount(on, minlength=len(order))[order],
        "bodies": faces.bodies.by_tracklet(order),
    }
    return columns, len(order)


def _face_columns(faces: VideoFaces, ids: NDArray[np.int64]) -> tuple[dict[str, Any], int]:
    boxes = boxes_of(faces.table)
    order = np.lexsort((*boxes.T[::-1], faces.frames))
    columns: dict[str, Any] = {
        "frame_num": faces.frames[order] + 1,
        "tracklet_id": ids_or_null(np.append(ids, 0)[faces.tracklets[order]]),
    }
    columns |= _box_columns(boxes[order])
    for name, digits in FACE_DIGITS.items():
        columns[name] = reals_or_null(np.round(reals(faces.table, name)[order], digits))
    dists = vectors_or_nan(faces.table, "age_dist", GROUPS)[order]
    columns["age_dist"] = vectors_or_null(np.round(dists.astype(np.float64), 3), rows.REALS)
    for name in ("judged", "why_not", "restored"):
        columns[name] = faces.table[name].take(pa.array(order))
    return columns, len(order)


def _extent(runs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return first frame, end frame and number of rows of each of `count` tracklets."""
    first = np.full(count, np.iinfo(np.int64).max)
    last, total = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.minimum.at(first, runs[:, 0], runs[:, 1])
    np.maximum.at(last, runs[:, 0], runs[:, 2])
    np.add.at(total, runs[:, 0], runs[:, 2] - runs[:, 1])
    return first, last, total


def _box_columns(boxes: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    left, top, right, bottom = np.round(boxes.astype(np.float64), 1).T
    width, height = np.round(right - left, 1), np.round(bottom - top, 1)
    return {"bb_xmin": left, "bb_ymin": top, "bb_height": height, "bb_width": width}
