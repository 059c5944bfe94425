"""The faces of a video, each on the tracklet of its person."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import unit_vector
from pipeline.columns import flags, integers, items_of, reals, unit_vectors
from pipeline.cores.purity import AppearanceLog
from pipeline.video.blocks import BOX, BlockReader, TrackingResult
from pipeline.video.bodies import VideoBodies, bodies_of
from pipeline.video.job import VideoChunks
from pipeline.video.timeline import Timeline

MIN_FACE_WEIGHT = 1.0
"""Summed quality of a tracklet's faces below which they do not identify a person. It is the quality of one perfect
face. Small and blurred faces of different people are as similar as those of one person (.9 in a street,
MobileFaceNet)."""
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
    bodies: the bodies that were judged alone.
    """

    table: pa.Table
    chunks: NDArray[np.int64]
    frames: NDArray[np.int64]
    tracklets: NDArray[np.int64]
    means: Mapping[int, NDArray[np.float32]]
    steadiness: Mapping[int, float]
    bodies: VideoBodies

    @property
    def judged(self) -> NDArray[np.bool_]:
        return flags(self.table, "judged")


def read_faces(job: VideoChunks, timeline: Timeline, tracked: TrackingResult, boxes: BlockReader) -> VideoFaces:
    """Return all faces, each with the tracklet of its detection."""
    shown, frames, tracklets = [], [], []
    bodies = [VideoBodies.none()]
    means: dict[int, NDArray[np.float32]] = {}
    steadiness: dict[int, float] = {}
    appearances: dict[int, AppearanceLog] = defaultdict(AppearanceLog)
    weights: dict[int, float] = defaultdict(float)
    for chunk in range(len(job.chunks)):
        faces = faces_of(job, chunk)
        shown.append(pa.table([faces.field(field.name) for field in SHOWN_OF_FACES], pa.schema(SHOWN_OF_FACES)))
        frames.append(integers(faces, "frame") + timeline.first_frames[chunk])
        on = integers(faces, "detection", null=-1)
        rows_of_boxes = (
            boxes.between(*timeline.first_frames[chunk : chunk + 2].tolist()) if len(on) else np.zeros(0, BOX)
        )
        # The array is one longer than necessary. Its last place is for index -1, a face without a person.
        by_detection = np.full(2 + max(on.max(initial=-1), rows_of_boxes["detection"].max(initial=-1)), -1)
        by_detection[rows_of_boxes["detection"]] = tracked.tracklets(rows_of_boxes)
        tracklets.append(by_detection[on])
        if job.config.estimate.uses != "faces":
            first, last = timeline.first_frames[chunk : chunk + 2].tolist()
            bodies.append(bodies_of(job, chunk, first, tracked, boxes.between(first, last)))
        vectors = unit_vectors(faces)
        if vectors is not None:
            judged = flags(faces, "judged")
            quality = reals(faces, "quality")
            usable = np.flatnonzero(judged & (tracklets[-1] >= 0) & vectors.any(axis=1))
            for i in usable[np.argsort(frames[-1][usable], kind="stable")].tolist():
                tracklet, frame = int(tracklets[-1][i]), int(frames[-1][i])
                appearances[tracklet].add(frame, int(timeline.times_ns[frame]), vectors[i] * quality[i])
                weights[tracklet] += float(quality[i])
        end = timeline.first_frames[chunk + 1]
        for tracklet in [
            number for number in appearances if tracked.last_frames[number] < end or chunk + 1 == len(job.chunks)
        ]:
            (appearance,) = appearances.pop(tracklet).parts(None)
            if weights.pop(tracklet) >= MIN_FACE_WEIGHT:
                means[tracklet], steadiness[tracklet] = unit_vector(appearance.total), appearance.steadiness
    return VideoFaces(
        pa.concat_tables(shown),
        np.repeat(np.arange(len(frames)), [len(numbers) for numbers in frames]),
        np.concatenate(frames).astype(np.int64),
        np.concatenate(tracklets).astype(np.int64),
        means,
        steadiness,
        VideoBodies.joined(bodies),
    )


def faces_of(job: VideoChunks, chunk: int) -> pa.StructArray:
    return items_of(job.ledger.enriched(job.video_id, job.chunks[chunk], rows.FACES.names), "faces")
