"""Rows about persons who are left out of the tables of a video, because they are forgotten.

Tracklets and persons are numbered with those who are left out. All others therefore keep their numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import integers, reals
from pipeline.cores.forgotten import Recogniser
from pipeline.storage.tombstones import Forgotten

FaceKey = tuple[int, float, float]
"""Frame, left edge and upper edge of a face."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The persons who are left out of the tables of one video, and everything that belongs to them.

    persons, tracklets: their ids.
    loose_faces: faces that belong to no tracklet, but lie in the box of such a person.
    is_everyone: whether no other person is left.
    """

    persons: frozenset[int] = frozenset()
    tracklets: frozenset[int] = frozenset()
    loose_faces: frozenset[FaceKey] = frozenset()
    is_everyone: bool = False

    @classmethod
    def of(
        cls,
        persons: Iterable[int],
        tracklet_ids: NDArray[np.int64],
        person_ids: NDArray[np.int64],
        faces: pa.Table,
        detections: Iterable[pa.Table],
    ) -> Self:
        """Return what belongs to some persons of a video.

        tracklet_ids, person_ids: (T,) of its tracklets.
        faces: its rows of `faces`; the columns about persons are not needed.
        detections: its rows of `detections`, in parts; `person_id` is not needed.
        """
        chosen = np.isin(person_ids, list(persons))
        tracklets = frozenset(tracklet_ids[chosen].tolist())
        return cls(frozenset(persons), tracklets, _loose_faces(faces, detections, tracklets), not np.any(~chosen))

    def without(self, dataset: str, table: pa.Table) -> pa.Table:
        """Return the rows of a dataset of this video that are about nobody who is left out."""
        if not self.persons or not (dataset != "likenesses" or self.is_everyone):
            return table
        stays = np.full(len(table), dataset != "likenesses")
        names = table.column_names
        for column, ids in (
            ("person_id", self.persons),
            ("tracklet_id", self.tracklets),
            ("tracklet_a", self.tracklets),
            ("tracklet_b", self.tracklets),
        ):
            if column in names:
                stays &= ~np.isin(integers(table, column, null=0), list(ids))
        if dataset == "faces":
            stays &= np.array([key not in self.loose_faces for key in _face_keys(table)], np.bool_)
        elif dataset == "embeddings":  # a face has no box there: all loose faces of the frame are left out
            frames = [frame for frame, _, _ in self.loose_faces]
            is_loose = integers(table, "tracklet_id", null=0) == 0
            stays &= ~(is_loose & np.isin(integers(table, "frame_num", null=0), frames))
        return table if stays.all() else table.filter(pa.array(stays, pa.bool_()))


NOBODY = LeftOut()


def recognise(
    forgotten: Forgotten,
    tracklet_ids: NDArray[np.int64],
    person_ids: NDArray[np.int64],
    detections: Iterable[pa.Table],
) -> frozenset[int]:
    """Return the ids of the persons with a tracklet of a forgotten person.

    tracklet_ids, person_ids: (T,) of the video's tracklets.
    detections: the rows of `detections`, whole frames at a time.
    """
    recognisers = [Recogniser(paths) for paths in forgotten]
    for table in detections:
        columns = integers(table, "tracklet_id"), integers(table, "frame_num"), boxes_of(table)
        for recogniser in recognisers:
            recogniser.add(*columns)
    tracklets = [recogniser.tracklets() for recogniser in recognisers]
    return frozenset(person_ids[np.isin(tracklet_ids, np.concatenate([[0], *tracklets]))].tolist())


def boxes_of(table: pa.Table) -> NDArray[np.float64]:
    """Return the published boxes of a table as (N, 4) xyxy px."""
    left, top, width, height = (reals(table, f"bb_{name}") for name in ("xmin", "ymin", "width", "height"))
    return np.stack([left, top, left + width, top + height], axis=1)


def _loose_faces(faces: pa.Table, detections: Iterable[pa.Table], tracklets: frozenset[int]) -> frozenset[FaceKey]:
    loose = faces.filter(pa.array(integers(faces, "tracklet_id", null=0) == 0))
    if not len(loose):
        return frozenset()
    boxes = boxes_of(loose)
    centres, frames = (boxes[:, :2] + boxes[:, 2:]) / 2, integers(loose, "frame_num")
    covered = np.zeros(len(loose), np.bool_)
    for table in detections:
        chosen = np.isin(integers(table, "tracklet_id"), list(tracklets)) & np.isin(
            integers(table, "frame_num"), frames
        )
        for frame, box in zip(integers(table, "frame_num")[chosen], boxes_of(table)[chosen], strict=True):
            inside = np.all((centres >= box[:2]) & (centres <= box[2:]), axis=1)
            covered |= inside & (frames == frame)
    return frozenset(key for key, is_covered in zip(_face_keys(loose), covered, strict=True) if is_covered)


def _face_keys(faces: pa.Table) -> Sequence[FaceKey]:
    """Return the keys of faces that belong to no tracklet. Keys of other faces have the frame 0."""
    frames = np.where(integers(faces, "tracklet_id", null=0) == 0, integers(faces, "frame_num"), 0)
    sides = reals(faces, "bb_xmin").tolist(), reals(faces, "bb_ymin").tolist()
    return list(zip(frames.tolist(), *sides, strict=True))
