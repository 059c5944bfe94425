"""The frames of a whole video, read from its durable chunks."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import flags, integers, items_of
from pipeline.cores.camera import Steady
from pipeline.cores.place import light_of
from pipeline.errors import DataError
from pipeline.media.warnings import Note, read_notes
from pipeline.storage.ledger import is_whole
from pipeline.video.job import VideoChunks

FRAME_COLUMNS = [
    *(name for name in rows.FRAMES.names if name != "frames"),
    *(f"frames.list.element.{field.name}" for field in rows.FRAME),
]
"""The columns of frames that are read for every chunk. Sketches of places leave only their light in memory."""
NOMINAL_FPS = 25


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every frame of a video, at least one, and the start of each chunk among them.

    times_ns: (F,) int64, rising.
    analysed: (F,) bool. Whether the detector processed the frame.
    num_detections: (F,) int32.
    differences: (F, 3) int64. Sums of absolute differences of hue, saturation and lightness to the next frame.
    light: (F, 2) mean saturation and lightness, 0..255, nan for frames that were not analysed.
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
    light: NDArray[np.float64]
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
        """Return when the (N,) `frames` begin, in seconds. Index len(self) stands for the end of the video."""
        end_ns = self.times_ns[-1] + self.frame_ns
        return np.round(np.append(self.times_ns, end_ns)[frames] / 1e9, 6)


def read_timeline(job: VideoChunks, frame_ns: int) -> Timeline:
    """Return all frames of a video, the last of which lasts `frame_ns`. Raises DataError if there is none."""
    if not is_whole(job.chunks):
        raise ValueError(f"video {job.video_id} is reduced before all of its chunks are durable: {job.chunks}")
    times_ns, analysed, num_detections, differences, light, moved, motions, counts = [], [], [], [], [], [], [], []
    warnings: list[str | None] = []
    size, pixels = (0, 0), 1
    for span in job.chunks:
        chunk = job.ledger.observed(job.video_id, span, ["warning", *FRAME_COLUMNS, "detections.list.element.frame"])
        frames = items_of(chunk, "frames")
        times_ns.append(integers(frames, "time_ns"))
        analysed.append(flags(frames, "analysed"))
        columns = [integers(frames, name, null=0) for name in ("hue", "saturation", "lightness")]
        differences.append(np.stack(columns, axis=1))
        light.append(_light(frames))
        motion = frames.field("motion")
        moved.append(np.flatnonzero(motion.is_valid()) + sum(counts))
        motions.append(motion.drop_null().flatten().to_numpy().reshape(-1, 4))
        num_detections.append(np.bincount(integers(items_of(chunk, "detections"), "frame"), minlength=len(frames)))
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
        np.concatenate(num_detections).astype(np.int32),
        np.concatenate(differences).astype(np.int64),
        np.concatenate(light).astype(np.float64),
        Steady.of(np.concatenate(moved), np.concatenate(motions), *size),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        *size,
        pixels,
        tuple(read_notes(warnings)),
        frame_ns,
    )


def _light(frames: pa.StructArray) -> NDArray[np.float64]:
    """Return (N, 2) `Timeline.light` of N frames. Chunks of an earlier version have no sketches."""
    if frames.type.get_field_index("place") < 0:
        return np.full((len(frames), 2), np.nan)
    return np.reshape([light_of(sketch) for sketch in frames.field("place").to_pylist()], (-1, 2))
