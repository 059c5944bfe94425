"""The bodies of a video that were judged alone, each on its tracklet: from durable chunks, or from `tracklets`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.columns import integers, items_of, reals
from pipeline.video.blocks import BoxRows, TrackingResult
from pipeline.video.job import VideoChunks

DIGITS = {"quality": 3, "age": 1, "age_std": 1, "female_prob": 3}


@dataclass(frozen=True, slots=True)
class VideoBodies:
    """B bodies.

    tracklets: (B,) int64, index of the tracklet.
    frames: (B,) int64, index in the video.
    values: (B, 4) float64. Quality, age in years, its standard error, and probability of female, nan where there is
        none.
    """

    tracklets: NDArray[np.int64]
    frames: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, len(DIGITS))))

    @classmethod
    def joined(cls, parts: Sequence["VideoBodies"]) -> Self:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in VideoBodies.__slots__))

    @classmethod
    def of_column(cls, column: pa.Array | pa.ChunkedArray) -> Self:
        """Return the bodies in the column `bodies` of `tracklets`. `tracklets` are the numbers of its rows."""
        lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        items = lists.flatten()
        values = np.stack([reals(items, name) for name in DIGITS], axis=1)
        return cls(np.repeat(np.arange(len(lists)), counts), integers(items, "frame_num") - 1, values)

    def by_tracklet(self, order: NDArray[np.int64]) -> pa.Array:
        """Return the column `bodies` of `tracklets`: for each of the tracklets in `order`, its bodies by frame."""
        rank = np.full(max(order.max(initial=-1), self.tracklets.max(initial=-1)) + 1, -1)
        rank[order] = np.arange(len(order))
        places = rank[self.tracklets]
        chosen = np.lexsort((self.frames, places))
        chosen = chosen[places[chosen] >= 0]
        counts = np.bincount(places[chosen], minlength=len(order))
        kind = rows.BODY_ESTIMATES.value_type
        numbers = {"frame_num": pa.array(self.frames[chosen] + 1)} | {
            name: pa.array(values, mask=np.isnan(values))
            for name, values in zip(DIGITS, self.values[chosen].T, strict=True)
        }
        items = pa.StructArray.from_arrays([numbers[field.name] for field in kind], fields=list(kind))
        offsets = pa.array(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), mask=np.append(counts == 0, False)
        )
        return pa.ListArray.from_arrays(offsets, items)


def bodies_of(job: VideoChunks, chunk: int, first_frame: int, tracked: TrackingResult, boxes: BoxRows) -> VideoBodies:
    """Return the bodies of one chunk that were judged alone and are on a tracklet.

    first_frame: of the chunk, index in the video.
    boxes: rows of the blocks in the frames of the chunk.
    """
    bodies = items_of(job.ledger.enriched(job.video_id, job.chunks[chunk], rows.BODIES.names), "bodies")
    detections = integers(bodies, "detection")
    by_detection = np.full(1 + max(detections.max(initial=-1), boxes["detection"].max(initial=-1)), -1)
    by_detection[boxes["detection"]] = tracked.tracklets(boxes)
    values = np.stack([np.round(reals(bodies, name), digits) for name, digits in DIGITS.items()], axis=1)
    tracklets = by_detection[detections]
    is_judged = (tracklets >= 0) & np.isfinite(values[:, 1:]).any(axis=1)
    frames = integers(bodies, "frame") + first_frame
    return VideoBodies(tracklets[is_judged], frames[is_judged], values[is_judged])
