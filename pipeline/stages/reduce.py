"""Reduce one video: from durable chunks to published tables. Shots are tracked in order across all chunk borders.

Nothing here knows Ray; `spread` says how the parts of the tracking are carried out. Detections and embeddings are read
a chunk at a time; what stays in memory is one short row per box, and one summary per tracklet.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import Config
from pipeline.cores.fill import Knots, ShotFrames, intervals, rows_between
from pipeline.cores.likeness import Likenesses, steadiness
from pipeline.cores.link import Tracklet, calibrate, link, summarise
from pipeline.cores.number import number_tracklets
from pipeline.errors import DataError
from pipeline.media.cuts import find_shots
from pipeline.media.decode import damaged_cells
from pipeline.media.probe import Probe, describe_warnings
from pipeline.stages.publish import (
    Facts,
    conclude,
    facts_schema,
    ids_or_null,
    likeness_table,
    make,
    nullable,
    publish,
)
from pipeline.storage import state, tables
from pipeline.storage.ledger import Ledger, Span, is_whole
from pipeline.storage.store import Store

FRAMES_PER_WINDOW = 16_384
"""Rows are made for so many frames at a time."""
FRAMES_PER_PART = 20_000
"""Analysed frames that one task tracks; shots are never divided. About a minute of work."""
NOMINAL_FPS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """The durable chunks of a video, and what is to be made of them.

    spaces: the embedding spaces of `body` and `face`, where there are such. priors: what is known of their embedders.
    """

    video_id: str
    spans: tuple[Span, ...]
    csv_names: tuple[str, ...]
    ledger: Ledger
    config: Config
    spaces: Mapping[str, str]
    priors: Likenesses

    def with_spans(self, spans: tuple[Span, ...]) -> Self:
        return replace(self, spans=spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Chunks):
    """A video that is processed. config_id: what its tables will be known to depend on."""

    uri: str
    probe: Probe
    config_id: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every frame of a video, at least one, and where each chunk begins in it.

    times_ns: (F,) int64, rising. analysed: (F,) bool. differences: (F, 3) int64, hue, saturation, lightness to the next
    frame. first_frames: (C + 1,) int64: chunk c holds the frames [first_frames[c], first_frames[c + 1]).
    """

    times_ns: NDArray[np.int64]
    analysed: NDArray[np.bool_]
    differences: NDArray[np.int64]
    first_frames: NDArray[np.int64]
    width: int
    height: int
    thumbnail_pixels: int
    damaged_cells: tuple[int, ...]
    frame_ns: int

    def __len__(self) -> int:
        return len(self.times_ns)

    def seconds(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """When frames begin; the one after the last begins where the video ends."""
        end_ns = self.times_ns[-1] + self.frame_ns
        return np.round(np.append(self.times_ns, end_ns)[frames] / 1e9, 6)


@dataclass(frozen=True, slots=True)
class Tracked:
    """The tracklets of some shots: T of them, with K boxes in analysed frames, ordered by tracklet, then frame.

    chunks, detections: (K,) where the box stands: detection `detections[k]` of chunk `chunks[k]`.
    shots: (T,) index of the shot. bodies: (T, D) float32, mean of unit embeddings, nan where there is none; D may be 0.
    steadiness: (T,) of the body embedding (cores.likeness), nan where it is not known.
    """

    knots: Knots
    chunks: NDArray[np.int64]
    detections: NDArray[np.int64]
    shots: NDArray[np.int64]
    bodies: NDArray[np.float32]
    steadiness: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive shots for one task: shots[i] is the half-open range of frames of shot number `first_shot` + i."""

    job: Chunks
    timeline: Timeline
    first_shot: int
    shots: tuple[tuple[int, int], ...]


Spread = Callable[[Sequence[Part]], Iterable[Tracked]]
"""Carries out `track.track_part` for every part, in any place, and gives the results in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What came of a video, for whoever keeps the books."""

    video_id: str
    row: dict[str, Any]
    num_chunks: int


def reduce_video(job: Job, spread: Spread) -> Published:
    """Cut, track, link and publish. Raises DataError where there is nothing to publish."""
    timeline = read_timeline(job, round(1e9 / (float(job.probe.fps) or NOMINAL_FPS)))
    store = job.ledger.store
    counts = publish_chunks(job, timeline, spread, store)
    row = _video_row(job, timeline) | counts
    state.write_video(store, row)
    if not job.config.biometrics.keep:
        job.ledger.clear(job.video_id)
    return Published(video_id=job.video_id, row=row, num_chunks=len(job.spans))


def publish_chunks(
    job: Chunks, timeline: Timeline, spread: Spread, store: Store, likenesses: Likenesses | None = None
) -> dict[str, int]:
    """Write every table but `videos` into `store`; returns what the columns num_shots and num_persons of that say.

    likenesses: where they are known already.
    """
    shots = find_shots(
        timeline.times_ns,
        *timeline.differences.T,
        pixels=timeline.thumbnail_pixels,
        threshold=job.config.cuts.threshold,
        min_shot_s=job.config.cuts.min_shot_s,
    )
    tracked = concatenate(list(spread(_parts(job, timeline, shots))))
    faces = read_faces(job, timeline, tracked)
    tracklets = summarise_shots(job, timeline, shots, tracked, faces)
    ordered = [tracklets.summaries[index] for index in np.argsort(tracklets.ids)]
    likenesses = likenesses or calibrate(ordered, job.priors)
    links, labels = link(ordered, job.config.identity, likenesses)
    facts = _facts(job, timeline, shots, tracked, faces, tracklets, likenesses)
    people = conclude(facts, links, labels, job.config.person)
    publish(store, facts, people, job.csv_names)
    if job.config.biometrics.keep:
        schema = rows.BIOMETRIC_DATASETS["embeddings"]
        embeddings = make(schema, _embedding_columns(job, tracked, faces, tracklets.ids))
        tables.write(store, f"embeddings/{job.video_id}.parquet", schema, [embeddings])
    return {"num_shots": len(shots), "num_persons": len(people.votes)}


def read_timeline(job: Chunks, frame_ns: int) -> Timeline:
    """All frames of a video, the last of which lasts `frame_ns`. Raises DataError where there is none."""
    if not is_whole(job.spans):
        raise ValueError(f"video {job.video_id} is reduced before all of its chunks are durable: {job.spans}")
    times_ns, analysed, differences, counts = [], [], [], []
    warnings: list[str | None] = []
    size, pixels = (0, 0), 1
    for span in job.spans:
        chunk = job.ledger.observed(job.video_id, span, ["warning", *rows.FRAMES.names])
        frames = flat(chunk["frames"])
        times_ns.append(numbers(frames, "time_ns"))
        analysed.append(frames.field("analysed").to_numpy(zero_copy_only=False).astype(np.bool_))
        columns = [frames.field(name).fill_null(0) for name in ("hue", "saturation", "lightness")]
        differences.append(np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1))
        counts.append(len(frames))
        warnings.append(chunk["warning"][0].as_py())
        if len(frames):
            size = (chunk["width"][0].as_py(), chunk["height"][0].as_py())
            pixels = chunk["thumbnail_pixels"][0].as_py()
    if not sum(counts):
        raise DataError("not a single frame can be decoded; check the file with a player")
    return Timeline(
        np.concatenate(times_ns).astype(np.int64),
        np.concatenate(analysed),
        np.concatenate(differences).astype(np.int64),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        *size,
        pixels,
        tuple(damaged_cells(warnings)),
        frame_ns,
    )


def _parts(job: Chunks, timeline: Timeline, shots: Sequence[tuple[int, int]]) -> list[Part]:
    """Consecutive shots, about FRAMES_PER_PART analysed frames together."""
    before = np.concatenate([[0], np.cumsum(timeline.analysed)])
    parts: list[Part] = []
    first = 0
    for last, (_, end) in enumerate(shots):
        if before[end] - before[shots[first][0]] >= FRAMES_PER_PART or last == len(shots) - 1:
            parts.append(Part(job, timeline, first, tuple(shots[first : last + 1])))
            first = last + 1
    return parts


def concatenate(parts: Sequence[Tracked]) -> Tracked:
    offsets = np.cumsum([0, *(len(part.shots) for part in parts)])
    width = max((part.bodies.shape[1] for part in parts), default=0)
    bodies = np.full((int(offsets[-1]), width), np.nan, np.float32)
    for part, offset in zip(parts, offsets, strict=False):
        bodies[offset : offset + len(part.shots), : part.bodies.shape[1]] = part.bodies

    def joined(columns: Iterable[NDArray[Any]], kind: Any, *shape: int) -> NDArray[Any]:
        listed = list(columns)
        return np.concatenate(listed).astype(kind) if listed else np.zeros((0, *shape), kind)

    knots = Knots(
        joined((part.knots.tracklets + offset for part, offset in zip(parts, offsets, strict=False)), np.int64),
        joined((part.knots.frames for part in parts), np.int64),
        joined((part.knots.boxes for part in parts), np.float32, 4),
        joined((part.knots.scores for part in parts), np.float32),
    )
    return Tracked(
        knots,
        joined((part.chunks for part in parts), np.int64),
        joined((part.detections for part in parts), np.int64),
        joined((part.shots for part in parts), np.int64),
        bodies,
        joined((part.steadiness for part in parts), np.float64),
    )


# --- faces and people ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenFaces:
    """The F faces of a video. table: the fields of rows.FACE; frames: (F,) of the video; tracklets: (F,), -1 none."""

    table: pa.Table
    frames: NDArray[np.int64]
    tracklets: NDArray[np.int64]
    vectors: NDArray[np.float32] | None

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64, nan for null."""
        return self.table[name].cast(pa.float64()).to_numpy()

    @property
    def judged(self) -> NDArray[np.bool_]:
        return self.table["judged"].fill_null(False).to_numpy().astype(np.bool_)


@dataclass(frozen=True, slots=True)
class Summaries:
    """The T tracklets of a video, as they are tracked: ids: (T,) as published. runs: (M, 3) tracklet, start, end."""

    ids: NDArray[np.int64]
    runs: NDArray[np.int64]
    summaries: list[Tracklet]


def read_faces(job: Chunks, timeline: Timeline, tracked: Tracked) -> SeenFaces:
    """All faces, each with the tracklet of the detection that it is on."""
    keys = tracked.chunks << 32 | tracked.detections
    order = np.argsort(keys)
    tables_, frames, tracklets, vectors = [], [], [], []
    for chunk, span in enumerate(job.spans):
        faces = flat(job.ledger.enriched(job.video_id, span, rows.FACES.names)["faces"])
        tables_.append(pa.table(faces.flatten(), names=[field.name for field in rows.FACE]))
        frames.append(numbers(faces, "frame") + timeline.first_frames[chunk])
        on = faces.field("detection").fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        place = np.searchsorted(keys, chunk << 32 | np.maximum(on, 0), sorter=order)
        place = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(on), np.int64)
        hit = (on >= 0) & (len(order) > 0)
        if len(order):
            hit &= keys[place] == (chunk << 32 | np.maximum(on, 0))
        tracklets.append(np.where(hit, tracked.knots.tracklets[place] if len(order) else -1, -1))
        vectors.append(unit_vectors(faces))
    width = max((v.shape[1] for v in vectors if v is not None), default=0)
    joined = [np.zeros((len(f), width), np.float32) if v is None else v for v, f in zip(vectors, frames, strict=True)]
    return SeenFaces(
        pa.concat_tables(tables_),
        np.concatenate(frames).astype(np.int64),
        np.concatenate(tracklets).astype(np.int64),
        np.concatenate(joined) if width else None,
    )


def summarise_shots(
    job: Chunks, timeline: Timeline, shots: Sequence[tuple[int, int]], tracked: Tracked, faces: SeenFaces
) -> Summaries:
    """What the linker knows of every tracklet."""
    bodies = [None if np.isnan(body).any() or not len(body) else body for body in tracked.bodies]
    face_means, face_steadiness = _face_means(faces, len(tracked.shots))
    steady = np.stack([tracked.steadiness, face_steadiness], axis=1)
    summaries: list[Tracklet] = []
    runs = [np.zeros((0, 3), np.int64)]
    for shot, frames in _shot_frames(timeline, shots):
        knots = _knots_of_shot(tracked, shot)
        first = len(summaries)
        own = slice(first, first + int((tracked.shots == shot).sum()))
        local = replace(knots, tracklets=knots.tracklets - first)
        occupied = intervals(local, frames, _fill_ns(job))
        runs.append(np.stack([occupied.tracklets + first, occupied.starts, occupied.ends], axis=1))
        summaries += summarise(shot, frames, local, occupied, bodies[own], face_means[own], steady[own])
    ids = number_tracklets(
        np.array([summary.intervals[0, 0] for summary in summaries], np.int64),
        np.array([summary.head_boxes[0] for summary in summaries], np.float32).reshape(-1, 4),
    )
    return Summaries(ids, np.concatenate(runs), summaries)


# --- facts -----------------------------------------------------------------------------------------------------------


def _facts(
    job: Chunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: Tracked,
    faces: SeenFaces,
    tracklets: Summaries,
    likenesses: Likenesses,
) -> Facts:
    def table(dataset: str, columns: Mapping[str, Any], num_rows: int) -> pa.Table:
        return make(facts_schema(dataset), {"video_id": [job.video_id] * num_rows} | dict(columns))

    starts, ends = np.array(shots, np.int64).T
    numbered = np.arange(1, len(shots) + 1)
    times = {"shot": numbered, "start_s": timeline.seconds(starts), "end_s": timeline.seconds(ends)}
    return Facts(
        video_id=job.video_id,
        shots=table("shots", times, len(shots)),
        tracklets=table("tracklets", *_tracklet_columns(timeline, tracked, faces, tracklets)),
        faces=table("faces", *_face_columns(faces, tracklets.ids)),
        detections=lambda: _detections(job, timeline, shots, tracked, tracklets.ids),
        likenesses=likeness_table(job.video_id, likenesses, job.spaces),
        num_analysed=int(timeline.analysed.sum()),
    )


def _detections(
    job: Chunks, timeline: Timeline, shots: Sequence[tuple[int, int]], tracked: Tracked, ids: NDArray[np.int64]
) -> Iterator[pa.Table]:
    """The rows of `detections`, a window of frames at a time."""
    for shot, frames in _shot_frames(timeline, shots):
        knots = _knots_of_shot(tracked, shot)
        for start in range(frames.start, frames.end, FRAMES_PER_WINDOW):
            end = min(start + FRAMES_PER_WINDOW, frames.end)
            found = rows_between(_around(knots, frames, start, end), frames, _fill_ns(job), start, end)
            columns: dict[str, Any] = {
                "video_id": [job.video_id] * len(found),
                "frame_num": found.frames + 1,
                "time_s": timeline.seconds(found.frames),
                "shot": np.full(len(found), shot + 1),
                "tracklet_id": ids[found.tracklets],
                "score": nullable(np.round(found.scores.astype(np.float64), 3)),
                "interpolated": found.interpolated,
            }
            yield make(facts_schema("detections"), columns | _box_columns(found.boxes))


def _tracklet_columns(
    timeline: Timeline, tracked: Tracked, faces: SeenFaces, tracklets: Summaries
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
    }
    return columns, len(order)


def _face_columns(faces: SeenFaces, ids: NDArray[np.int64]) -> tuple[dict[str, Any], int]:
    boxes = box_array(faces.table["box"].combine_chunks())
    order = np.lexsort((*boxes.T[::-1], faces.frames))
    columns: dict[str, Any] = {
        "frame_num": faces.frames[order] + 1,
        "tracklet_id": ids_or_null(np.append(ids, 0)[faces.tracklets[order]]),
    }
    columns |= _box_columns(boxes[order])
    for name, digits in (("score", 3), ("quality", 3), ("age", 1), ("age_std", 1), ("female_prob", 3)):
        columns[name] = nullable(np.round(faces.numbers(name)[order], digits))
    for name in ("judged", "why_not", "restored"):
        columns[name] = faces.table[name].take(pa.array(order))
    return columns, len(order)


def _embedding_columns(
    job: Chunks, tracked: Tracked, faces: SeenFaces, tracklet_ids: NDArray[np.int64]
) -> dict[str, Any]:
    """One body vector per tracklet, the mean; one face vector per judged face."""
    has_body = tracked.bodies.shape[1] > 0 and ~np.isnan(tracked.bodies).any(axis=1)
    bodies = np.flatnonzero(has_body)[np.argsort(tracklet_ids[has_body])] if np.any(has_body) else []
    shown = [i for i in np.argsort(faces.frames, kind="stable") if faces.vectors is not None and faces.vectors[i].any()]
    vectors = [tracked.bodies[i].tolist() for i in bodies]
    if faces.vectors is not None:
        vectors += [faces.vectors[i].tolist() for i in shown]
    on = [int(tracklet_ids[i]) for i in bodies]
    on += [int(tracklet_ids[faces.tracklets[i]]) if faces.tracklets[i] >= 0 else None for i in shown]  # type: ignore[misc]
    return {
        "video_id": [job.video_id] * len(vectors),
        "tracklet_id": on,
        "frame_num": [None] * len(bodies) + [int(faces.frames[i]) + 1 for i in shown],
        "kind": ["body"] * len(bodies) + ["face"] * len(shown),
        "space": [job.spaces.get("body")] * len(bodies) + [job.spaces.get("face")] * len(shown),
        "vector": vectors,
    }


def _video_row(job: Job, timeline: Timeline) -> dict[str, Any]:
    cell_seconds = job.config.chunk.cell_seconds
    recorded_at = datetime.fromisoformat(job.probe.recorded_at) if job.probe.recorded_at else None
    return dict.fromkeys(rows.DATASETS["videos"].names) | {
        "video_id": job.video_id,
        "uri": job.uri,
        "status": "done",
        "warning": describe_warnings(job.probe, timeline.damaged_cells, timeline.times_ns[-1], cell_seconds),
        "config_id": job.config_id,
        "width": timeline.width,
        "height": timeline.height,
        "fps": round(float(job.probe.fps), 6) or None,
        "duration_s": float(timeline.seconds(np.array([len(timeline)]))[0]),
        "num_frames": len(timeline),
        "num_analysed": int(timeline.analysed.sum()),
        "recorded_at": recorded_at,
    }


# --- small things ----------------------------------------------------------------------------------------------------


def _shot_frames(timeline: Timeline, shots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ShotFrames]]:
    for shot, (start, end) in enumerate(shots):
        analysed = start + np.flatnonzero(timeline.analysed[start:end])
        yield shot, ShotFrames(start, timeline.times_ns[start:end], analysed)


def _knots_of_shot(tracked: Tracked, shot: int) -> Knots:
    """Tracklets are in order of their shots, so those of one shot stand together."""
    first, end = np.searchsorted(tracked.shots, [shot, shot + 1])
    own = slice(*np.searchsorted(tracked.knots.tracklets, [first, end]))
    knots = tracked.knots
    return Knots(knots.tracklets[own], knots.frames[own], knots.boxes[own], knots.scores[own])


def _around(knots: Knots, shot: ShotFrames, start: int, end: int) -> Knots:
    """The knots that rows of [start, end) depend on: those inside, and of each tracklet the nearest on either side."""
    frames = knots.frames
    same = np.diff(knots.tracklets) == 0
    nobody = np.zeros(min(len(knots), 1), np.bool_)
    leads_in = np.append(same & (frames[1:] >= start), nobody) & (frames < start)
    leads_out = np.append(nobody, same & (frames[:-1] < end)) & (frames >= end)
    held = (frames <= shot.analysed[0]) | (frames >= shot.analysed[-1]) if len(shot.analysed) else nobody
    chosen = ((frames >= start) & (frames < end)) | leads_in | leads_out | held
    return Knots(knots.tracklets[chosen], frames[chosen], knots.boxes[chosen], knots.scores[chosen])


def _extent(runs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First frame, end frame and number of rows of each of `count` tracklets."""
    first = np.full(count, np.iinfo(np.int64).max)
    last, total = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.minimum.at(first, runs[:, 0], runs[:, 1])
    np.maximum.at(last, runs[:, 0], runs[:, 2])
    np.add.at(total, runs[:, 0], runs[:, 2] - runs[:, 1])
    return first, last, total


def _fill_ns(job: Chunks) -> int:
    return round(job.config.track.fill_gap_s * 1e9)


def _box_columns(boxes: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    left, top, right, bottom = np.round(boxes.astype(np.float64), 1).T
    width, height = np.round(right - left, 1), np.round(bottom - top, 1)
    return {"bb_xmin": left, "bb_ymin": top, "bb_height": height, "bb_width": width}


def flat(column: pa.ChunkedArray) -> pa.StructArray:
    """The structs of a one-row list column."""
    return column.combine_chunks().flatten()


def numbers(structs: pa.StructArray, name: str) -> NDArray[np.int64]:
    return structs.field(name).to_numpy(zero_copy_only=False)


def box_array(structs: pa.Array, name: str | None = None) -> NDArray[np.float32]:
    column = structs.field(name) if name else structs
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, 4)


def unit_vectors(structs: pa.StructArray) -> NDArray[np.float32] | None:
    """The embeddings of N structs as (N, D) unit vectors, zero where there is none; None where nobody has one."""
    embeddings = structs.field("embedding")
    has = embeddings.is_valid().to_numpy(zero_copy_only=False)
    if not has.any():
        return None
    own = embeddings.filter(pa.array(has))
    codes = np.frombuffer(b"".join(own.field("codes").to_pylist()), np.int8).reshape(len(own), -1)
    vectors = np.zeros((len(has), codes.shape[1]), np.float32)
    vectors[has] = Quantised(codes, own.field("scale").to_numpy(zero_copy_only=False)).vectors()
    return vectors


def _face_means(faces: SeenFaces, count: int) -> tuple[list[NDArray[np.float32] | None], NDArray[np.float64]]:
    """Of each of `count` tracklets the mean embedding of its judged faces, weighted by quality, and its steadiness.

    None and nan where there is too little.
    """
    means: list[NDArray[np.float32] | None] = [None] * count
    steady = np.full(count, np.nan)
    if faces.vectors is None:
        return means, steady
    chosen = np.flatnonzero(faces.judged & (faces.tracklets >= 0) & faces.vectors.any(axis=1))
    chosen = chosen[np.lexsort((faces.frames[chosen], faces.tracklets[chosen]))]
    weighted = faces.vectors[chosen].astype(np.float64) * faces.numbers("quality")[chosen, None]
    found, starts = np.unique(faces.tracklets[chosen], return_index=True)
    for tracklet, own in zip(found.tolist(), np.split(weighted, starts[1:]), strict=False):
        means[tracklet] = unit(own.sum(axis=0))
        steady[tracklet] = steadiness(own)
    return means, steady


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else vector).astype(np.float32)
