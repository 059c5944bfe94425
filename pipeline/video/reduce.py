"""Reduce one video from durable chunks to published tables. Shots are tracked in order across all chunk borders.

This module does not use Ray. The argument `run_parts` carries out the parts of the tracking. Detections, embeddings and
tracking results are read one window at a time. Memory holds a time per frame, a short row per face, and one summary
per tracklet.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import Config
from pipeline.cores.camera import Steady
from pipeline.cores.fill import Intervals, Knots, ShotFrames, intervals, rows_between
from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.cores.link.tracklets import END_S, Tracklet, summarise
from pipeline.cores.number import number_tracklets
from pipeline.cores.pauses import segments
from pipeline.cores.place import Scenes, Seam, cells, closest, seam
from pipeline.cores.purity import AppearanceLog
from pipeline.errors import DataError
from pipeline.media.cuts import find_shots
from pipeline.media.probe import Probe
from pipeline.media.warnings import Note, describe_warnings, read_notes
from pipeline.models.tracker_options import MEMORY, hole_updates, memory_updates, resolve, silence_s
from pipeline.storage import records, tables
from pipeline.storage.ledger import ChunkSpan, Ledger, is_whole, summary_name
from pipeline.storage.store import Store
from pipeline.video.blocks import BOX, BlockReader, TrackingResult
from pipeline.video.publish import (
    Facts,
    conclude,
    facts_schema,
    ids_or_null,
    likeness_table,
    make,
    nullable,
    publish,
)

FRAMES_PER_WINDOW = 4_096
"""Number of frames whose boxes are read, and whose rows are made, at a time."""
MS_PER_PART = 10_000
"""Milliseconds of work of one tracking task, by the estimate below. A new worker needs some seconds to load the
trackers, so smaller parts would cost more than they save."""
MS_PER_FRAME, MS_PER_DETECTION = 0.8, 0.25
"""Milliseconds of OccluBoost per frame and per detection, on one core (tests/bench/tracking_at_scale.py)."""
ROWS_OF_VECTORS = 1024
"""Number of embeddings that are written at a time."""
FRAME_COLUMNS = [
    *(name for name in rows.FRAMES.names if name != "frames"),
    *(f"frames.list.element.{field.name}" for field in rows.FRAME if field.name != "place"),
]
"""The columns of frames that are read for every chunk. Sketches of places are read only around cuts."""
SEAM_FRAMES = (4, 8)
"""Number of analysed frames before and after a cut that are compared. Several are needed, because flashes, and the
pictures of a camera that switches to infrared, resemble nothing before or after."""
MIN_FACE_WEIGHT = 1.0
"""Summed quality of a tracklet's faces below which they do not identify a person. It is the quality of one perfect
face. Small and blurred faces of different people are as similar as those of one person (.9 in a street,
MobileFaceNet)."""
NOMINAL_FPS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoChunks:
    """The durable chunks of a video, and the settings for the tables made of them.

    video_id: id of the content.
    spans: (first_cell, end_cell) of each chunk, in order.
    csv_names: names of the CSV files to write.
    ledger: holds the durable objects.
    config: of the tables to make.
    spaces: embedding spaces by `body` and `face`, where there are such embeddings.
    priors: calibrated similarity of their embedders.
    in_sequence: whether later files of a sequence may be linked with the persons of this video.
    """

    video_id: str
    spans: tuple[ChunkSpan, ...]
    csv_names: tuple[str, ...]
    ledger: Ledger
    config: Config
    spaces: Mapping[str, str]
    priors: Likenesses
    in_sequence: bool = False

    def with_spans(self, spans: tuple[ChunkSpan, ...]) -> Self:
        return replace(self, spans=spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoJob(VideoChunks):
    """A video that is processed.

    uri: the source that is read.
    probe: of its container.
    config_id: id of everything besides the content on which its tables depend.
    """

    uri: str
    probe: Probe
    config_id: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every frame of a video, at least one, and the start of each chunk among them.

    times_ns: (F,) int64, rising.
    analysed: (F,) bool. Whether the detector processed the frame.
    num_detections: (F,) int32.
    differences: (F, 3) int64. Sums of absolute differences of hue, saturation and lightness to the next frame.
    steady: the camera motion.
    first_frames: (C + 1,) int64. Chunk c holds the frames [first_frames[c], first_frames[c + 1]).
    width, height: px of the displayed picture.
    thumbnail_pixels: pixels of a thumbnail, over which the differences are summed.
    notes: warnings of the decoder.
    frame_ns: duration of the last frame.
    """

    times_ns: NDArray[np.int64]
    analysed: NDArray[np.bool_]
    num_detections: NDArray[np.int32]
    differences: NDArray[np.int64]
    steady: Steady
    first_frames: NDArray[np.int64]
    width: int
    height: int
    thumbnail_pixels: int
    notes: tuple[Note, ...]
    frame_ns: int

    def __len__(self) -> int:
        return len(self.times_ns)

    def seconds(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times at which frames begin. The frame after the last one begins at the end of the video."""
        end_ns = self.times_ns[-1] + self.frame_ns
        return np.round(np.append(self.times_ns, end_ns)[frames] / 1e9, 6)


@dataclass(frozen=True, slots=True)
class PartOfShot:
    """Frames that one tracker processes.

    shot: index of the shot.
    frames: (A,) int64. The analysed frames from a first detection to the last frame before a pause.
    times_ns: (A,) int64, of those frames.
    steady: the camera motion in those frames.
    updates_before: as in cores.pauses.Segment.
    min_frames: a track with fewer boxes becomes no tracklet.
    is_brief: whether the shot has too few analysed frames for a track to be confirmed.
    """

    shot: int
    frames: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    steady: Steady
    updates_before: int
    min_frames: int
    is_brief: bool


@dataclass(frozen=True, slots=True)
class Part:
    """The work of one tracking task, in order of frames.

    job: the chunks of the video.
    number: index of this part.
    step_s: usual time between analysed frames, in seconds.
    first_frames: as in Timeline.
    pieces: the frames to track, each piece with a new tracker.
    """

    job: VideoChunks
    number: int
    step_s: float
    first_frames: NDArray[np.int64]
    pieces: tuple[PartOfShot, ...]


RunParts = Callable[[Sequence[Part]], Iterable[TrackingResult]]
"""The function that carries out `track.track_part` for every part, in any place, and returns the results in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVideo:
    """The result of a published video, for the run record.

    video_id: id of the content.
    row: its row of `videos`.
    num_chunks: number of chunks that were reduced.
    """

    video_id: str
    row: dict[str, Any]
    num_chunks: int


def reduce_video(job: VideoJob, run_parts: RunParts) -> PublishedVideo:
    """Cut, track, link and publish a video. Raises DataError if there is nothing to publish."""
    timeline = read_timeline(job, round(1e9 / (float(job.probe.fps) or NOMINAL_FPS)))
    store = job.ledger.store
    counts = publish_chunks(job, timeline, run_parts, store)
    row = _video_row(job, timeline) | counts
    records.write_video(store, row)
    if not job.config.biometrics.keep:
        job.ledger.clear(job.video_id)
    return PublishedVideo(video_id=job.video_id, row=row, num_chunks=len(job.spans))


def publish_chunks(
    job: VideoChunks, timeline: Timeline, run_parts: RunParts, store: Store, likenesses: Likenesses | None = None
) -> dict[str, int]:
    """Write every table except `videos` into `store`. Return the values of num_shots and num_persons for `videos`.

    likenesses: calibrated similarities, if they are known already.
    """
    shots = find_shots(
        timeline.times_ns,
        *timeline.differences.T,
        pixels=timeline.thumbnail_pixels,
        threshold=job.config.cuts.threshold,
        min_shot_s=job.config.cuts.min_shot_s,
    )
    try:
        tracked = TrackingResult.joined(list(run_parts(plan_parts(job, timeline, shots))))
        return _publish_tracked(job, timeline, shots, tracked, store, likenesses)
    finally:
        job.ledger.clear_tracked(job.video_id)


def _publish_tracked(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    store: Store,
    likenesses: Likenesses | None,
) -> dict[str, int]:
    boxes = BlockReader(job.ledger, tracked.blocks)
    faces = read_faces(job, timeline, tracked, boxes)
    tracklets = summarise_shots(job, timeline, shots, tracked, boxes, faces)
    ordered = [tracklets.summaries[index] for index in np.argsort(tracklets.ids)]
    likenesses = likenesses or calibrate(ordered, job.priors)
    scenes = find_scenes(job, timeline, shots, boxes)
    links, labels = link(ordered, job.config.identity, likenesses, scenes)
    facts = _facts(job, timeline, shots, tracked, boxes, faces, tracklets, likenesses)
    people = conclude(facts, links, labels, job.config.person)
    publish(store, facts, people, job.csv_names)
    if job.config.biometrics.keep:
        schema = rows.BIOMETRIC_DATASETS["embeddings"]
        embeddings = _embeddings(job, timeline, tracked, faces, tracklets.ids)
        tables.write(store, f"embeddings/{job.video_id}.parquet", schema, embeddings)
    else:
        store.delete(f"embeddings/{job.video_id}.parquet")  # an earlier publication may have kept it
    if job.config.biometrics.keep or job.in_sequence:
        summaries = make(rows.SUMMARY, _summary_columns(job, timeline, ordered))
        tables.write(store, summary_name(job.video_id), rows.SUMMARY, [summaries])
    else:
        store.delete(summary_name(job.video_id))  # an earlier publication may have kept it
    return {"num_shots": len(shots), "num_persons": len(people.votes)}


def read_timeline(job: VideoChunks, frame_ns: int) -> Timeline:
    """Return all frames of a video, the last of which lasts `frame_ns`. Raises DataError if there is none."""
    if not is_whole(job.spans):
        raise ValueError(f"video {job.video_id} is reduced before all of its chunks are durable: {job.spans}")
    times_ns, analysed, seen, differences, moved, motions, counts = [], [], [], [], [], [], []
    warnings: list[str | None] = []
    size, pixels = (0, 0), 1
    for span in job.spans:
        chunk = job.ledger.observed(job.video_id, span, ["warning", *FRAME_COLUMNS, "detections.list.element.frame"])
        frames = flat(chunk["frames"])
        times_ns.append(numbers(frames, "time_ns"))
        analysed.append(frames.field("analysed").to_numpy(zero_copy_only=False).astype(np.bool_))
        columns = [frames.field(name).fill_null(0) for name in ("hue", "saturation", "lightness")]
        differences.append(np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1))
        motion = frames.field("motion")
        moved.append(np.flatnonzero(motion.is_valid()) + sum(counts))
        motions.append(motion.drop_null().flatten().to_numpy().reshape(-1, 4))
        seen.append(np.bincount(numbers(flat(chunk["detections"]), "frame"), minlength=len(frames)))
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
        np.concatenate(seen).astype(np.int32),
        np.concatenate(differences).astype(np.int64),
        Steady.of(np.concatenate(moved), np.concatenate(motions), *size),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        *size,
        pixels,
        tuple(read_notes(warnings)),
        frame_ns,
    )


def plan_parts(job: VideoChunks, timeline: Timeline, shots: Sequence[tuple[int, int]]) -> list[Part]:
    """Return parts that can be tracked separately and still give the rows of shots tracked from first to last frame.

    The pieces are shots, and the segments of a shot on either side of a pause that is longer than the tracker's
    memory. They are grouped into parts of about MS_PER_PART.
    """
    track = job.config.track
    frames = np.flatnonzero(timeline.analysed)
    times_ns = timeline.times_ns[frames]
    step_s = float(np.median(np.diff(times_ns))) / 1e9 if len(frames) > 1 else 1 / NOMINAL_FPS
    updates = memory_updates(track.memory_s, step_s)
    memory = MEMORY[track.tracker](resolve(track.tracker, track.min_score, updates, track.options))
    parts: list[Part] = []
    waiting: list[PartOfShot] = []
    work_ms = 0.0
    for shot, (first, end) in enumerate(np.searchsorted(frames, np.array(shots)).tolist()):
        num_detections = timeline.num_detections[frames[first:end]]
        for one in segments(
            times_ns[first:end] / 1e9,
            num_detections > 0,
            memory=memory,
            silence_s=silence_s(track.memory_s, step_s),
            hole_updates=hole_updates(updates),
        ):
            own = slice(first + one.start, first + one.end)
            min_frames = min(track.min_frames, end - first)
            steady = timeline.steady.within(frames[own])
            is_brief = end - first < max(track.min_frames, 2)
            waiting.append(
                PartOfShot(shot, frames[own], times_ns[own], steady, one.updates_before, min_frames, is_brief)
            )
            work_ms += MS_PER_FRAME * (one.end - one.start)
            work_ms += MS_PER_DETECTION * int(num_detections[one.start : one.end].sum())
            if work_ms >= MS_PER_PART:
                parts.append(Part(job, len(parts), step_s, timeline.first_frames, tuple(waiting)))
                waiting, work_ms = [], 0.0
    if waiting:
        parts.append(Part(job, len(parts), step_s, timeline.first_frames, tuple(waiting)))
    return parts


# --- faces and people ------------------------------------------------------------------------------------------------


SHOWN_OF_FACES = [field for field in rows.FACE if field.name not in ("landmarks", "embedding")]


@dataclass(frozen=True, slots=True)
class VideoFaces:
    """The F faces of a video, chunk by chunk.

    table: F rows of SHOWN_OF_FACES.
    chunks: (F,) int64, rising.
    frames: (F,) int64, index in the video.
    tracklets: (F,) int64, -1 for none.
    means: by tracklet, the (D,) mean of its face embeddings, weighted by quality. Only for tracklets whose faces
        reach MIN_FACE_WEIGHT.
    steadiness: by tracklet, the steadiness of those embeddings (cores.likeness).
    """

    table: pa.Table
    chunks: NDArray[np.int64]
    frames: NDArray[np.int64]
    tracklets: NDArray[np.int64]
    means: Mapping[int, NDArray[np.float32]]
    steadiness: Mapping[int, float]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as float64, with nan for null."""
        return self.table[name].cast(pa.float64()).to_numpy()

    @property
    def judged(self) -> NDArray[np.bool_]:
        return self.table["judged"].fill_null(False).to_numpy().astype(np.bool_)


@dataclass(frozen=True, slots=True)
class Summaries:
    """The T tracklets of a video, in tracking order.

    ids: (T,) int64, as published.
    runs: (M, 3) int64. Tracklet, start, end.
    summaries: T summaries for the linker.
    """

    ids: NDArray[np.int64]
    runs: NDArray[np.int64]
    summaries: list[Tracklet]


def read_faces(job: VideoChunks, timeline: Timeline, tracked: TrackingResult, boxes: BlockReader) -> VideoFaces:
    """Return all faces, each with the tracklet of its detection."""
    tables_, frames, tracklets = [], [], []
    means: dict[int, NDArray[np.float32]] = {}
    steadiness: dict[int, float] = {}
    looks: dict[int, AppearanceLog] = defaultdict(AppearanceLog)
    weights: dict[int, float] = defaultdict(float)
    for chunk in range(len(job.spans)):
        faces = _faces_of(job, chunk)
        tables_.append(pa.table([faces.field(field.name) for field in SHOWN_OF_FACES], pa.schema(SHOWN_OF_FACES)))
        frames.append(numbers(faces, "frame") + timeline.first_frames[chunk])
        on = faces.field("detection").fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        found = boxes.between(*timeline.first_frames[chunk : chunk + 2].tolist()) if len(on) else np.zeros(0, BOX)
        # The array is one longer than necessary. Its last place is for index -1, a face without a person.
        by_detection = np.full(2 + max(on.max(initial=-1), found["detection"].max(initial=-1)), -1)
        by_detection[found["detection"]] = tracked.tracklets(found)
        tracklets.append(by_detection[on])
        vectors = unit_vectors(faces)
        if vectors is not None:
            judged = tables_[-1]["judged"].fill_null(False).to_numpy().astype(np.bool_)
            quality = tables_[-1]["quality"].cast(pa.float64()).to_numpy()
            own = np.flatnonzero(judged & (tracklets[-1] >= 0) & vectors.any(axis=1))
            for i in own[np.argsort(frames[-1][own], kind="stable")].tolist():
                tracklet, frame = int(tracklets[-1][i]), int(frames[-1][i])
                looks[tracklet].add(frame, int(timeline.times_ns[frame]), vectors[i] * quality[i])
                weights[tracklet] += quality[i]
        end = timeline.first_frames[chunk + 1]
        for tracklet in [one for one in looks if tracked.last_frames[one] < end or chunk + 1 == len(job.spans)]:
            (look,) = looks.pop(tracklet).parts(None)
            if weights.pop(tracklet) >= MIN_FACE_WEIGHT:
                means[tracklet], steadiness[tracklet] = unit(look.total), look.steadiness
    return VideoFaces(
        pa.concat_tables(tables_),
        np.repeat(np.arange(len(frames)), [len(each) for each in frames]),
        np.concatenate(frames).astype(np.int64),
        np.concatenate(tracklets).astype(np.int64),
        means,
        steadiness,
    )


def _faces_of(job: VideoChunks, chunk: int) -> pa.StructArray:
    return flat(job.ledger.enriched(job.video_id, job.spans[chunk], rows.FACES.names)["faces"])


def summarise_shots(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    boxes: BlockReader,
    faces: VideoFaces,
) -> Summaries:
    """Return the summary of every tracklet for the linker."""
    bodies = [None if np.isnan(body).any() or not len(body) else body for body in tracked.bodies]
    means = [faces.means.get(index) for index in range(len(tracked))]
    steadiness = np.stack(
        [tracked.steadiness, [faces.steadiness.get(index, np.nan) for index in range(len(tracked))]], 1
    )
    end_ns = int(END_S * 1e9)
    first_ns, last_ns = timeline.times_ns[tracked.first_frames], timeline.times_ns[tracked.last_frames]
    box_sums, num_boxes = np.zeros((len(tracked), 4)), np.zeros(len(tracked))
    summaries: list[Tracklet] = []
    all_runs = [np.zeros((0, 3), np.int64)]
    for shot, frames in _shot_frames(timeline, shots):
        first, stop = np.searchsorted(tracked.shots, (shot, shot + 1)).tolist()
        if first == stop:
            continue
        runs: list[NDArray[np.int64]] = []
        ends: list[Knots] = []
        for start, end, knots in _windows(job, frames, tracked, boxes):
            seen = intervals(knots, frames, _fill_ns(job))
            runs.append(np.stack([seen.tracklets, seen.starts, seen.ends], axis=1))
            # The linker uses only the first and the last boxes of a tracklet.
            times_ns, of = timeline.times_ns[knots.frames], knots.tracklets
            own = (knots.frames >= start) & (knots.frames < end)
            np.add.at(box_sums, of[own], knots.boxes[own])
            np.add.at(num_boxes, of[own], 1)
            is_end = (times_ns <= first_ns[of] + end_ns) | (times_ns >= last_ns[of] - end_ns)
            ends.append(_subset(knots, is_end & own))
        all_runs.append(_united(np.concatenate(runs)))
        tracklets, *others = (np.concatenate([getattr(each, name) for each in ends]) for name in Knots.__slots__)
        knots = Knots.ordered(tracklets - first, *others)
        occupied = Intervals(all_runs[-1][:, 0] - first, *all_runs[-1][:, 1:].T)
        own = slice(first, stop)
        mean_boxes = np.round(box_sums[own] / num_boxes[own, None], 1)
        steady_boxes = timeline.steady.boxes(knots.frames, knots.boxes)
        vectors = (bodies[own], means[own], steadiness[own])
        summaries += summarise(shot, frames, knots, occupied, *vectors, mean_boxes, steady_boxes)
    ids = number_tracklets(
        np.array([summary.intervals[0, 0] for summary in summaries], np.int64),
        np.array([summary.first_box for summary in summaries], np.float32).reshape(-1, 4),
    )
    return Summaries(ids, np.concatenate(all_runs), summaries)


def find_scenes(job: VideoChunks, timeline: Timeline, shots: Sequence[tuple[int, int]], boxes: BlockReader) -> Scenes:
    """Return the nature of the cuts between the shots, from the sketches of the frames around them."""
    analysed = np.flatnonzero(timeline.analysed)
    around: list[tuple[list[int], list[int]]] = []
    for (first, cut), (_, end) in pairwise(shots):
        before, after = analysed[(analysed >= first) & (analysed < cut)], analysed[(analysed >= cut) & (analysed < end)]
        around.append((before[-SEAM_FRAMES[0] :].tolist(), after[: SEAM_FRAMES[1]].tolist()))
    sketches = _read_sketches(job, timeline, sorted({frame for sides in around for side in sides for frame in side}))
    seams = []
    for sides in around:
        before, after = ([frame for frame in side if frame in sketches] for side in sides)
        if not before or not after:
            seams.append(Seam())
            continue
        i, j = closest([sketches[frame] for frame in before], [sketches[frame] for frame in after])
        pair = (before[i], after[j])
        people = np.concatenate([boxes.between(frame, frame + 1)["box"] for frame in pair])
        seams.append(seam(sketches[pair[0]], sketches[pair[1]], cells(people, timeline.width, timeline.height)))
    return Scenes.of(seams)


def _read_sketches(job: VideoChunks, timeline: Timeline, frames: Sequence[int]) -> dict[int, bytes]:
    """Return the sketches of rising `frames`. Chunks of an earlier version have none."""
    found: dict[int, bytes] = {}
    for chunk, span in enumerate(job.spans):
        first, end = timeline.first_frames[chunk : chunk + 2].tolist()
        own = [frame for frame in frames if first <= frame < end]
        if not own:
            continue
        table = job.ledger.observed(job.video_id, span, ["frames.list.element.place"])
        if "frames" not in table.column_names:
            continue
        column = flat(table["frames"]).field("place")
        told = {frame: column[frame - first].as_py() for frame in own}
        found |= {frame: sketch for frame, sketch in told.items() if sketch is not None}
    return found


# --- facts -----------------------------------------------------------------------------------------------------------


def _facts(
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
        return make(facts_schema(dataset), {"video_id": [job.video_id] * num_rows} | dict(columns))

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
    )


def _detections(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    boxes: BlockReader,
    ids: NDArray[np.int64],
) -> Iterator[pa.Table]:
    """Yield the rows of `detections`, one window of frames at a time."""
    for shot, frames in _shot_frames(timeline, shots):
        for start, end, knots in _windows(job, frames, tracked, boxes):
            found = rows_between(knots, frames, _fill_ns(job), start, end)
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
    }
    return columns, len(order)


def _face_columns(faces: VideoFaces, ids: NDArray[np.int64]) -> tuple[dict[str, Any], int]:
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


def _embeddings(
    job: VideoChunks, timeline: Timeline, tracked: TrackingResult, faces: VideoFaces, tracklet_ids: NDArray[np.int64]
) -> Iterator[pa.Table]:
    """Yield the rows of `embeddings`. Each tracklet has one body vector, the mean. Each judged face has one face
    vector."""

    def table(kind: str, on: Sequence[int | None], frames: Sequence[int | None], vectors: NDArray[Any]) -> pa.Table:
        offsets = pa.array(np.arange(len(on) + 1) * vectors.shape[1], pa.int32())
        columns: dict[str, Any] = {
            "video_id": [job.video_id] * len(on),
            "tracklet_id": on,
            "frame_num": frames,
            "kind": [kind] * len(on),
            "space": [job.spaces.get(kind)] * len(on),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(vectors).ravel())),
        }
        return make(rows.BIOMETRIC_DATASETS["embeddings"], columns)

    order = np.argsort(tracklet_ids)
    order = order[~np.isnan(tracked.bodies[order]).any(axis=1)] if tracked.bodies.shape[1] else order[:0]
    for start in range(0, len(order), ROWS_OF_VECTORS):
        some = order[start : start + ROWS_OF_VECTORS]
        yield table("body", tracklet_ids[some].tolist(), [None] * len(some), tracked.bodies[some])
    for chunk in range(len(job.spans)):
        vectors = unit_vectors(_faces_of(job, chunk))
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
    for kind in ("body", "face"):
        vectors = [getattr(tracklet, kind) for tracklet in tracklets]
        columns[kind] = [None if vector is None else vector.tolist() for vector in vectors]
        columns[f"{kind}_space"] = [job.spaces.get(kind)] * len(tracklets)
    return columns


def _video_row(job: VideoJob, timeline: Timeline) -> dict[str, Any]:
    cell_seconds = job.config.chunk.cell_seconds
    recorded_at = datetime.fromisoformat(job.probe.recorded_at) if job.probe.recorded_at else None
    return dict.fromkeys(rows.DATASETS["videos"].names) | {
        "video_id": job.video_id,
        "uri": job.uri,
        "status": "done",
        "warning": describe_warnings(job.probe, timeline.notes, timeline.times_ns, cell_seconds),
        "config_id": job.config_id,
        "width": timeline.width,
        "height": timeline.height,
        "fps": None if job.probe.kind == "image" else round(float(job.probe.fps), 6) or None,
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


def _windows(
    job: VideoChunks, shot: ShotFrames, tracked: TrackingResult, boxes: BlockReader
) -> Iterator[tuple[int, int, Knots]]:
    """Yield windows [start, end) of a shot's frames, with all knots on which their rows depend, and some more around
    them."""
    fill_ns, times_ns, analysed = _fill_ns(job), shot.times_ns, shot.analysed
    for start in range(shot.start, shot.end, FRAMES_PER_WINDOW):
        end = min(start + FRAMES_PER_WINDOW, shot.end)
        # A row lies between neighbouring analysed frames, or between knots that are at most fill_gap_s apart.
        first = shot.start + int(np.searchsorted(times_ns, times_ns[start - shot.start] - fill_ns))
        stop = shot.start + int(np.searchsorted(times_ns, times_ns[end - 1 - shot.start] + fill_ns, side="right"))
        before, after = np.searchsorted(analysed, (start, end)).tolist()
        first = min(first, *analysed[before - 1 : before].tolist(), start)
        stop = max(stop, *(analysed[after : after + 1] + 1).tolist(), end)
        found = boxes.between(first, stop)
        tracklets = tracked.tracklets(found)
        found, tracklets = found[tracklets >= 0], tracklets[tracklets >= 0]
        yield start, end, Knots.ordered(tracklets, found["frame"], found["box"], found["score"])


def _subset(knots: Knots, chosen: NDArray[np.bool_]) -> Knots:
    return Knots(knots.tracklets[chosen], knots.frames[chosen], knots.boxes[chosen], knots.scores[chosen])


def _united(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the overlapping runs of each tracklet, and order them by tracklet, then start.

    runs: (N, 3) tracklet, start, end. N > 0.
    """
    tracklets, starts, ends = runs[np.lexsort((runs[:, 1], runs[:, 0]))].T
    shift = tracklets * (ends.max() + 1)  # makes the running maximum of the ends start again at each tracklet
    reached = np.maximum.accumulate(ends + shift) - shift
    opens = np.ones(len(runs), np.bool_)
    opens[1:] = (tracklets[1:] != tracklets[:-1]) | (starts[1:] >= reached[:-1])
    last = np.append(np.flatnonzero(opens)[1:], len(runs)) - 1
    return np.stack([tracklets[opens], starts[opens], reached[last]], axis=1)


def _extent(runs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return first frame, end frame and number of rows of each of `count` tracklets."""
    first = np.full(count, np.iinfo(np.int64).max)
    last, total = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.minimum.at(first, runs[:, 0], runs[:, 1])
    np.maximum.at(last, runs[:, 0], runs[:, 2])
    np.add.at(total, runs[:, 0], runs[:, 2] - runs[:, 1])
    return first, last, total


def _fill_ns(job: VideoChunks) -> int:
    return round(job.config.track.fill_gap_s * 1e9)


def _box_columns(boxes: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    left, top, right, bottom = np.round(boxes.astype(np.float64), 1).T
    width, height = np.round(right - left, 1), np.round(bottom - top, 1)
    return {"bb_xmin": left, "bb_ymin": top, "bb_height": height, "bb_width": width}


def flat(column: pa.ChunkedArray) -> pa.StructArray:
    """Return the structs of a one-row list column."""
    return column.combine_chunks().flatten()


def numbers(structs: pa.StructArray, name: str) -> NDArray[np.int64]:
    return structs.field(name).to_numpy(zero_copy_only=False)


def box_array(structs: pa.Array, name: str | None = None) -> NDArray[np.float32]:
    column = structs.field(name) if name else structs
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, 4)


def unit_vectors(structs: pa.StructArray) -> NDArray[np.float32] | None:
    """Return the embeddings of N structs as (N, D) unit vectors, zero where there is none. Return None if all are
    missing."""
    embeddings = structs.field("embedding")
    has = embeddings.is_valid().to_numpy(zero_copy_only=False)
    if not has.any():
        return None
    own = embeddings.filter(pa.array(has))
    codes = np.frombuffer(b"".join(own.field("codes").to_pylist()), np.int8).reshape(len(own), -1)
    vectors = np.zeros((len(has), codes.shape[1]), np.float32)
    vectors[has] = Quantised(codes, own.field("scale").to_numpy(zero_copy_only=False)).vectors()
    return vectors


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else vector).astype(np.float32)
