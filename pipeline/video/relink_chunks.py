"""Link a published video again from its kept chunks, with the published tracks or with new ones."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.boxes import pairwise_iou
from pipeline.columns import boxes as boxes_of
from pipeline.columns import flags, integers, items_of, reals
from pipeline.cores.fill import Knots
from pipeline.planning.changes import Basis
from pipeline.planning.recipe import priors
from pipeline.planning.relink import Relink
from pipeline.storage import tables
from pipeline.storage.ledger import Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import BOX, Block, TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.likenesses import read_likenesses
from pipeline.video.parts import track_here
from pipeline.video.reduce import publish_chunks
from pipeline.video.timeline import Timeline, read_timeline


def publish_from_chunks(task: Relink, basis: Basis, place: Store) -> dict[str, int]:
    """Write the tables into `place`. Return the values of num_shots and num_persons for `videos`."""
    chunks = VideoChunks(
        video_id=task.video_id,
        chunks=task.durable,
        csv_names=task.csv_names,
        ledger=Ledger(task.store, task.recipe.keys),
        config=task.after,
        spaces=task.wanted.spaces,
        priors=priors(task.wanted.likenesses),
        in_sequence=task.in_sequence,
    )
    timeline = read_timeline(chunks, 0)
    frame_ns = round(task.row["duration_s"] * 1e9) - int(timeline.times_ns[-1])
    timeline = replace(timeline, frame_ns=frame_ns)
    if basis is Basis.CHUNKS:
        return publish_chunks(chunks, timeline, track_here, place)
    likenesses = read_likenesses(tables.read_one(task.store, "likenesses", task.video_id))
    return publish_chunks(chunks, timeline, lambda _: [read_tracked(chunks, timeline)], place, likenesses)


def read_tracked(chunks: VideoChunks, timeline: Timeline) -> TrackingResult:
    """Return the tracking result of a published video. Its boxes are in `detections`, its bodies in `embeddings`."""
    store, video_id = chunks.ledger.store, chunks.video_id
    knots = _read_knots(store, video_id)
    places = np.zeros((2, len(knots)), np.int64)
    for chunk, span in enumerate(chunks.chunks):
        first, end = timeline.first_frames[chunk : chunk + 2]
        in_chunk = np.flatnonzero((knots.frames >= first) & (knots.frames < end))
        detections = items_of(chunks.ledger.observed(video_id, span, rows.DETECTIONS.names), "detections")
        boxes = boxes_of(detections)
        by_key: dict[tuple[int, int], list[int]] = {}
        for place, key in enumerate(_keys(integers(detections, "frame") + first, reals(detections, "score"))):
            by_key.setdefault(key, []).append(place)
        numbers = [
            _nearest(boxes, by_key[key], knots.boxes[row])
            for row, key in zip(in_chunk, _keys(knots.frames[in_chunk], knots.scores[in_chunk]), strict=True)
        ]
        places[0, in_chunk], places[1, in_chunk] = chunk, numbers
    shots = integers(tables.read_one(store, "tracklets", video_id, ["shot"]), "shot") - 1
    boxes = np.empty(len(knots), BOX)
    boxes["track"], boxes["frame"], boxes["box"], boxes["score"] = (getattr(knots, name) for name in Knots.__slots__)
    boxes["chunk"], boxes["detection"] = places
    boxes = boxes[np.argsort(knots.frames, kind="stable")]
    tracks = np.arange(len(shots))
    first, end = np.searchsorted(knots.tracklets, (tracks, tracks + 1))
    blocks = (Block(int(boxes["frame"][0]), int(boxes["frame"][-1]), boxes),) if len(boxes) else ()
    bodies = _read_bodies(store, video_id, len(shots))
    return TrackingResult(
        blocks, tracks, knots.frames[first], knots.frames[end - 1], shots, bodies, np.full(len(shots), np.nan)
    )


def _read_knots(store: Store, video_id: str) -> Knots:
    corners = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
    table = tables.read_one(
        store, "detections", video_id, ["tracklet_id", "frame_num", *corners, "score", "interpolated"]
    )
    table = table.filter(pa.array(~flags(table, "interpolated")))
    left, top, width, height = (reals(table, name) for name in corners)
    boxes = np.stack([left, top, np.round(left + width, 1), np.round(top + height, 1)], axis=1).astype(np.float32)
    tracklets, frames = integers(table, "tracklet_id") - 1, integers(table, "frame_num") - 1
    return Knots.ordered(tracklets, frames, boxes, reals(table, "score").astype(np.float32))


def _read_bodies(store: Store, video_id: str, count: int) -> NDArray[np.float32]:
    """Return the (T, D) body vectors as in TrackingResult, nan where there is none."""
    table = tables.read_one(store, "embeddings", video_id, ["tracklet_id", "kind", "vector"])
    of_body = [row for row in table.to_pylist() if row["kind"] == "body"]
    bodies = np.full((count, max((len(row["vector"]) for row in of_body), default=0)), np.nan, np.float32)
    for row in of_body:
        bodies[row["tracklet_id"] - 1] = row["vector"]
    return bodies


def _keys(frames: NDArray[np.int64], scores: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield a key for each of N detections: frame, and score in steps of 0.001."""
    thousandths = np.rint(scores.astype(np.float64) * 1000).astype(np.int64)
    yield from zip(frames.tolist(), thousandths.tolist(), strict=True)


def _nearest(boxes: NDArray[np.float32], places: Sequence[int], smoothed: NDArray[np.float32]) -> int:
    """Return the place among `places` whose box overlaps a smoothed one most. `suppress` keeps the first of equals."""
    if len(places) == 1:
        return places[0]
    return places[int(np.argmax(pairwise_iou(smoothed[None], boxes[places])[0]))]
