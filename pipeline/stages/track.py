"""Track one part of a video: BoxMOT over the stored boxes and embeddings of each shot, across all chunk borders."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Detections
from pipeline.config import Config
from pipeline.cores.fill import Knots
from pipeline.cores.likeness import Likeness
from pipeline.cores.purity import Look, Looks
from pipeline.cores.suppress import suppress
from pipeline.errors import UserError
from pipeline.models.tracker import Tracker
from pipeline.stages.reduce import (
    NOMINAL_FPS,
    Chunks,
    Part,
    Tracked,
    box_array,
    concatenate,
    flat,
    numbers,
    unit,
    unit_vectors,
)


def check_tracking(config: Config) -> None:
    """Raises UserError where the tracker does not know its options, or would miss the appearances that it compares."""
    track, body = config.track, config.observe.body
    tracker = Tracker(
        track.tracker, min_score=track.min_score, memory_s=track.memory_s, step_s=1 / NOMINAL_FPS, options=track.options
    )
    if tracker.uses_embeddings and (body.weights is None or body.embed != "all"):
        raise UserError(
            f"track.tracker {track.tracker} compares appearances of all detections: set observe.body.weights and "
            f"observe.body.embed=all, or track.tracker=bytetrack with track.min_score=0.5"
        )


def track_part(part: Part) -> Tracked:
    """Run the tracker over each shot of a part, from its first to its last frame."""
    track, timeline = part.job.config.track, part.timeline
    analysed_ns = timeline.times_ns[timeline.analysed]
    step_s = float(np.median(np.diff(analysed_ns))) / 1e9 if len(analysed_ns) > 1 else 1 / NOMINAL_FPS
    chunks = _ChunkReader(part.job)
    found: list[Tracked] = []
    for number, (start, end) in enumerate(part.shots, part.first_shot):
        tracker = Tracker(
            track.tracker,
            min_score=track.min_score,
            memory_s=track.memory_s,
            step_s=step_s,
            options=track.options,
        )
        columns: list[tuple[NDArray[Any], ...]] = []
        looks: dict[int, Looks] = defaultdict(Looks)
        frames = start + np.flatnonzero(timeline.analysed[start:end])
        for frame in frames:
            chunk = int(np.searchsorted(timeline.first_frames, frame, side="right")) - 1
            seen, own, vectors = chunks.frame(chunk, int(frame - timeline.first_frames[chunk]))
            keep = suppress(seen, track.duplicate_iou)
            embeddings = vectors[keep] if vectors is not None else None
            ids, kept = tracker.update(
                float(timeline.times_ns[frame] / 1e9), seen.boxes[keep], seen.scores[keep], embeddings
            )
            at = keep[kept]
            frame_of = np.full(len(ids), frame, np.int64)
            columns.append((ids, frame_of, seen.boxes[at], seen.scores[at], np.full(len(ids), chunk), own[at]))
            if vectors is not None:
                for i, vector in zip(ids.tolist(), vectors[at], strict=True):
                    if vector.any():
                        looks[i].add(int(frame), int(timeline.times_ns[frame]), vector)
        if columns:
            likeness = part.job.priors["body"] if track.split else None
            found.append(_one_shot(number, columns, looks, likeness, min(track.min_frames, len(frames))))
    return concatenate(found)


class _ChunkReader:
    """The detections of single frames; one chunk is in memory at a time."""

    def __init__(self, job: Chunks) -> None:
        self._job = job
        self._chunk = -1

    def frame(self, chunk: int, frame: int) -> tuple[Detections, NDArray[np.int64], NDArray[np.float32] | None]:
        """The detections of a frame, their places in the chunk, and their embeddings (zero where one has none)."""
        if chunk != self._chunk:
            self._load(chunk)
        start, end = np.searchsorted(self._frames, [frame, frame + 1])
        place = self._order[start:end]
        vectors = None if self._vectors is None else self._vectors[place]
        return Detections(self._boxes[place], self._scores[place]), place, vectors

    def _load(self, chunk: int) -> None:
        job = self._job
        table = job.ledger.observed(job.video_id, job.spans[chunk], rows.DETECTIONS.names)
        detections = flat(table["detections"])
        frames = numbers(detections, "frame")
        self._order = np.argsort(frames, kind="stable")
        self._frames = frames[self._order]
        self._boxes = box_array(detections, "box")
        self._scores = numbers(detections, "score").astype(np.float32)
        self._vectors = unit_vectors(detections)
        self._chunk = chunk


def _one_shot(
    number: int,
    columns: list[tuple[NDArray[Any], ...]],
    looks: Mapping[int, Looks],
    likeness: Likeness | None,
    min_frames: int,
) -> Tracked:
    """Leave out the tracks that are too short, divide those that change person, and number all from 0."""
    ids, frames, boxes, scores, chunks, detections = (np.concatenate(column) for column in zip(*columns, strict=True))
    tracklets = np.full(len(ids), -1)
    parts: list[Look | None] = []
    for name, count in zip(*(found.tolist() for found in np.unique(ids, return_counts=True)), strict=True):
        if count < min_frames:
            continue
        own = np.flatnonzero(ids == name)
        found = looks[name].parts(likeness) if name in looks else []
        borders = [part.start for part in found[1:]]
        tracklets[own] = len(parts) + np.searchsorted(borders, frames[own], side="right")
        parts += found or [None]
    chosen = np.flatnonzero(tracklets >= 0)
    chosen = chosen[np.lexsort((frames[chosen], tracklets[chosen]))]
    width = max((len(part.total) for part in parts if part), default=0)
    bodies, steadiness = np.full((len(parts), width), np.nan, np.float32), np.full(len(parts), np.nan)
    for index, part in enumerate(parts):
        if part:
            bodies[index], steadiness[index] = unit(part.total), part.steadiness
    knots = Knots(
        tracklets[chosen].astype(np.int64),
        frames[chosen].astype(np.int64),
        boxes[chosen].astype(np.float32).reshape(-1, 4),
        scores[chosen].astype(np.float32),
    )
    shots = np.full(len(parts), number, np.int64)
    return Tracked(
        knots, chunks[chosen].astype(np.int64), detections[chosen].astype(np.int64), shots, bodies, steadiness
    )
