"""Track one part of a video. BoxMOT runs over the stored boxes and embeddings of each shot, across all chunk
borders."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Detections, unit_vector
from pipeline.boxes import Boxes, area, at_edges, pairwise_intersection
from pipeline.columns import boxes, integers, items_of, reals, unit_vectors
from pipeline.config import Config
from pipeline.cores.likeness import Likeness
from pipeline.cores.link.tracklets import EDGE_PX
from pipeline.cores.purity import CONTACT, AppearanceLog
from pipeline.cores.suppress import suppress
from pipeline.models.tracker import Tracker
from pipeline.video.blocks import BOX, BlockWriter, TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.parts import Part, PartOfShot
from pipeline.video.smoothing import SmoothingWriter
from pipeline.video.timeline import NOMINAL_FPS

TRACKS_PER_PART = 1 << 32
CUT_OFF = 0.3
"""The weight of the embedding of a box that is cut off, against that of a whole one."""


def check_options(config: Config) -> None:
    """Raise UserError if the tracker does not know its options."""
    _tracker(config, 1 / NOMINAL_FPS)


def track_part(part: Part) -> TrackingResult:
    """Run a tracker over each piece of a part, in order. Memory does not grow with the length of a piece."""
    job = part.job
    chunks = _ChunkReader(job, part.first_frames)
    blocks = BlockWriter(partial(job.ledger.put_tracked, job.video_id, part.number))
    tracks = _Tracks(part.number * TRACKS_PER_PART, job.priors["body"] if job.config.track.split else None)
    for piece in part.pieces:
        writer = SmoothingWriter(blocks, piece.steady, part.size)
        _track_piece(piece, part.size, _tracker(job.config, part.step_s, piece), chunks, writer, tracks)
    return tracks.tracked(blocks)


def _tracker(config: Config, step_s: float, piece: PartOfShot | None = None) -> Tracker:
    track = config.track
    return Tracker(
        track.tracker,
        min_score=track.min_score,
        memory_s=track.memory_s,
        step_s=step_s,
        options=track.options,
        updates_before=piece.updates_before if piece else 0,
        is_brief=piece is not None and piece.is_brief,
    )


def _track_piece(
    piece: PartOfShot,
    size: tuple[int, int],
    tracker: Tracker,
    chunks: "_ChunkReader",
    writer: SmoothingWriter,
    tracks: "_Tracks",
) -> None:
    duplicate_iou = chunks.job.config.track.duplicate_iou
    tracks.begin(piece.shot, piece.min_frames)
    for update, (frame, time_ns) in enumerate(zip(piece.frames.tolist(), piece.times_ns.tolist(), strict=True)):
        chunk, detections, numbers, vectors = chunks.frame(frame)
        keep = suppress(detections, duplicate_iou)
        embeddings = vectors[keep] if vectors is not None else None
        boxes = piece.steady.boxes(frame, detections.boxes[keep])
        sure = tracker.update(time_ns / 1e9, boxes, detections.scores[keep], embeddings)
        tentative = apart_from(boxes[sure[1]], tracker.tentative, boxes)
        ids, kept = (np.concatenate(pair) for pair in zip(sure, tentative, strict=True))
        at = keep[kept]
        box_rows = np.zeros(len(at), BOX)
        weights = embedding_weights(detections.boxes[at], size)
        vectors_at = vectors[at] * weights[:, None] if vectors is not None else None
        touching = touching_boxes(boxes[kept])
        box_rows["track"] = tracks.see(ids, len(sure[0]), frame, time_ns, update, vectors_at, touching)
        box_rows["box"], box_rows["score"] = detections.boxes[at], detections.scores[at]
        box_rows["frame"], box_rows["chunk"], box_rows["detection"] = frame, chunk, numbers[at]
        writer.add(time_ns, box_rows)
        if update % tracker.memory == 0:
            tracks.finish(before=update - tracker.memory)
    writer.finish()
    tracks.finish()


def apart_from(
    sure: Boxes, tentative: tuple[NDArray[np.int64], NDArray[np.int64]], boxes: Boxes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tentative track ids and their detections, without those that touch a sure box.

    A track often begins on somebody whom another track is about to lose. Both would show one person at the same time,
    and could then not be joined.

    sure: (K, 4) boxes of the sure tracks. tentative: (N,) ids and (N,) indices in `boxes`, which are all detections.
    """
    ids, indices = tentative
    alone = ~np.any(_touch(boxes[indices], sure), axis=1)
    return ids[alone], indices[alone]


def embedding_weights(boxes: Boxes, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the (N,) weights of the embeddings of N boxes in the mean of a tracklet.

    A box at the edge of the picture shows a part of a person, so its embedding says less about who it is.

    size: width and height of the picture in px.
    """
    is_cut_off = at_edges(boxes, *size, EDGE_PX)
    return np.where(is_cut_off.any(axis=1), CUT_OFF, 1).astype(np.float32)


def touching_boxes(boxes: Boxes) -> NDArray[np.bool_]:
    """Return (N,) bool: whether each box touches another one."""
    touching = _touch(boxes, boxes)
    np.fill_diagonal(touching, False)
    return np.any(touching, axis=1)


def _touch(some: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """Return (N, M) bool: which of (N, 4) and (M, 4) boxes share enough of the smaller one."""
    return pairwise_intersection(some, others) >= CONTACT * np.minimum(area(some)[:, None], area(others)[None, :])


@dataclass(slots=True)
class _Track:
    """The state of a track while it is followed. Its boxes and embeddings pass through `see` in order of frames.

    first_frame: index in the video.
    last_frame: index in the video, -1 before the first box.
    last_update: update of the tracker at the last box, -1 before the first box.
    num_sure: number of boxes of which the tracker was sure.
    appearances: of the person, from the body embeddings.
    """

    first_frame: int
    last_frame: int = -1
    last_update: int = -1
    num_sure: int = 0
    appearances: AppearanceLog = field(default_factory=AppearanceLog)

    def see(
        self,
        frame: int,
        time_ns: int,
        update: int,
        vector: NDArray[np.float32] | None,
        *,
        is_sure: bool,
        touches: bool,
    ) -> None:
        """Take one box.

        vector: (D,) weighted embedding, zero if the box has none.
        is_sure: whether the tracker had confirmed the track by then.
        touches: whether the person touches another one.
        """
        self.last_frame, self.last_update = frame, update
        self.num_sure += is_sure
        if vector is not None and vector.any():
            self.appearances.add(frame, time_ns, vector, touches=touches)


@dataclass(frozen=True, slots=True)
class _Tracklet:
    """A finished track, or the part of it that is one person.

    track: number of the track.
    first_frame: index in the video.
    last_frame: index in the video, inclusive.
    shot: index of the shot.
    body: (D,) unit vector, None if there is no embedding.
    steadiness: of the body (cores.likeness), nan if there is no embedding.
    """

    track: int
    first_frame: int
    last_frame: int
    shot: int
    body: NDArray[np.float32] | None
    steadiness: float


class _Tracks:
    """The tracks of one part. It holds the tracks to which the tracker may return, and the tracklets of the finished
    ones.

    likeness: the calibrated similarity that divides a track where it changes from one person to another. None
        divides no track.
    """

    def __init__(self, first: int, likeness: Likeness | None) -> None:
        self._first = self._next = first
        self._likeness = likeness
        self._live: dict[int, _Track] = {}
        self._finished: list[_Tracklet] = []

    def begin(self, shot: int, min_frames: int) -> None:
        """Begin with a new tracker, whose ids count from 0, in a shot. Shorter tracks become no tracklets."""
        self._shot, self._min_frames = shot, min_frames
        self._first = self._next

    def see(
        self,
        ids: NDArray[np.int64],
        num_sure: int,
        frame: int,
        time_ns: int,
        update: int,
        vectors: NDArray[np.float32] | None,
        touching: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Take the (K,) tracker ids of one frame, of which the first `num_sure` are of confirmed tracks. Return (K,)
        numbers that no other track of the video has.

        touching: (K,). Whether each person touches another one.
        """
        numbers_ = self._first + ids
        for i, number in enumerate(numbers_.tolist()):
            if number not in self._live:
                self._live[number] = _Track(frame)
            vector = vectors[i] if vectors is not None else None
            self._live[number].see(frame, time_ns, update, vector, is_sure=i < num_sure, touches=bool(touching[i]))
            self._next = max(self._next, number + 1)
        return numbers_

    def finish(self, before: int | None = None) -> None:
        """End the tracks whose last box came before the update `before`, or all tracks if it is None."""
        over = [number for number, track in self._live.items() if before is None or track.last_update < before]
        for number in over:
            track = self._live.pop(number)
            if track.num_sure >= self._min_frames:
                self._finished += self._tracklets(number, track)

    def _tracklets(self, number: int, track: _Track) -> Iterator[_Tracklet]:
        parts = track.appearances.parts(self._likeness)
        borders = [track.first_frame, *(part.start for part in parts[1:]), track.last_frame + 1]
        for part, (first, end) in zip(parts or [None], pairwise(borders), strict=True):
            body = None if part is None else unit_vector(part.total)
            steadiness = float("nan") if part is None else part.steadiness
            yield _Tracklet(number, first, end - 1, self._shot, body, steadiness)

    def tracked(self, blocks: BlockWriter) -> TrackingResult:
        """Return the tracking result: all tracklets, in order of their tracks, and the blocks of their boxes."""
        tracklets = sorted(self._finished, key=lambda tracklet: (tracklet.track, tracklet.first_frame))
        width = max((len(tracklet.body) for tracklet in tracklets if tracklet.body is not None), default=0)
        bodies = np.full((len(tracklets), width), np.nan, np.float32)
        for index, tracklet in enumerate(tracklets):
            if tracklet.body is not None:
                bodies[index] = tracklet.body

        def column(name: str) -> NDArray[np.int64]:
            return np.array([getattr(tracklet, name) for tracklet in tracklets], np.int64)

        return TrackingResult(
            blocks=blocks.finish(),
            tracks=column("track"),
            first_frames=column("first_frame"),
            last_frames=column("last_frame"),
            shots=column("shot"),
            bodies=bodies,
            steadiness=np.array([tracklet.steadiness for tracklet in tracklets], np.float64),
        )


class _ChunkReader:
    """Reads the detections of single frames. One chunk is in memory at a time."""

    def __init__(self, job: VideoChunks, first_frames: NDArray[np.int64]) -> None:
        self.job = job
        self._first_frames = first_frames
        self._chunk = -1

    def frame(self, frame: int) -> tuple[int, Detections, NDArray[np.int64], NDArray[np.float32] | None]:
        """Return a frame's chunk, its detections, their places in the chunk, and their embeddings (zero where there
        is none)."""
        chunk = int(np.searchsorted(self._first_frames, frame, side="right")) - 1
        if chunk != self._chunk:
            self._load(chunk)
        start, end = np.searchsorted(self._frames, [frame, frame + 1])
        place = self._order[start:end]
        vectors = None if self._vectors is None else self._vectors[place]
        return chunk, Detections(self._boxes[place], self._scores[place]), place, vectors

    def _load(self, chunk: int) -> None:
        job = self.job
        table = job.ledger.observed(job.video_id, job.chunks[chunk], rows.DETECTIONS.names)
        detections = items_of(table, "detections")
        frames = integers(detections, "frame") + self._first_frames[chunk]
        self._order = np.argsort(frames, kind="stable")
        self._frames = frames[self._order]
        self._boxes = boxes(detections)
        self._scores = reals(detections, "score").astype(np.float32)
        self._vectors = unit_vectors(detections)
        self._chunk = chunk
