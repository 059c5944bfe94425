"""The moments at which a person of an output shows well, for somebody who labels that person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.boxes import area
from pipeline.columns import flags, integers, reals
from pipeline.cores.portraits import widened
from pipeline.exports.pictures import find_portraits
from pipeline.storage import tables
from pipeline.storage.store import Store
from pipeline.video.left_out import boxes_of

BODY_MARGIN, FACE_MARGIN = 0.1, 0.6
APART_S = 0.4
"""Seconds. Moments that are nearer to each other show the same."""
NUM_PARTS = 3
"""Of each third of a person's frames, the one with the largest box is shown."""
ESTIMATES = ("person_id", "age", "age_low", "age_high", "gender", "age_why_not", "gender_why_not")

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a person.

    box: xyxy px.
    zoom: the part of the frame that is shown large, xyxy px.
    """

    time_s: float
    box: Box
    zoom: Box


@dataclass(frozen=True, slots=True)
class PersonView:
    """A person of an output for labelling.

    moments: the best one first.
    face_px: width of the widest face, 0 without one.
    estimate: age and gender of the output, in words.
    """

    person_id: int
    moments: tuple[Moment, ...]
    face_px: int
    estimate: str


def read_people(store: Store, video: Mapping[str, Any]) -> list[PersonView]:
    """Return the persons of a video in order of their ids. Raises DataError. video: its row of `videos`."""
    video_id = video["video_id"]
    with tables.damage_is_a_fault():
        detections = tables.read_one(store, "detections", video_id)
        faces = tables.read_one(store, "faces", video_id)
        portraits = {portrait.person_id: portrait for portrait in find_portraits(store, video)}
        estimates = tables.read_one(store, "persons", video_id, ESTIMATES).to_pylist()
    detections = detections.filter(pa.array(~flags(detections, "interpolated")))
    persons, times_s, boxes = integers(detections, "person_id"), reals(detections, "time_s"), boxes_of(detections)
    widest = _widest_faces(faces)
    views = []
    for row in estimates:
        number = row["person_id"]
        if number not in portraits:
            continue
        best, face = portraits[number], widest.get(number)
        moments = [_moment(best.time_s, best.body, best.face)]
        for part in np.array_split(np.flatnonzero(persons == number), NUM_PARTS):
            if len(part):
                place = part[np.argmax(area(boxes[part]))]
                moments.append(_moment(float(times_s[place]), boxes[place], None))
        view = PersonView(number, _apart(moments), 0 if face is None else round(face), _in_words(row))
        views.append(view)
    return views


def moment_of_label(time_s: float, box: Sequence[float]) -> Moment:
    """Return the moment of somebody whom a list holds and the output does not."""
    return _moment(time_s, np.asarray(box, np.float64), None)


def _moment(time_s: float, body: NDArray[np.floating], face: NDArray[np.float64] | None) -> Moment:
    zoom = widened(np.asarray(body, np.float64), BODY_MARGIN) if face is None else widened(face, FACE_MARGIN)
    return Moment(round(time_s, 3), _rounded(body), _rounded(zoom))


def _apart(moments: Sequence[Moment]) -> tuple[Moment, ...]:
    """Return the moments without those that show the same as an earlier one."""
    chosen: list[Moment] = []
    for moment in moments:
        near = [other for other in chosen if abs(other.time_s - moment.time_s) < APART_S]
        if not near:
            chosen.append(moment)
    return tuple(chosen)


def _widest_faces(faces: pa.Table) -> dict[int, float]:
    """Return the width of the widest face by person, px."""
    widest: dict[int, float] = {}
    for person, width in zip(faces["person_id"].to_pylist(), reals(faces, "bb_width").tolist(), strict=True):
        if person is not None:
            widest[person] = max(widest.get(person, 0.0), width)
    return widest


def _in_words(row: Mapping[str, Any]) -> str:
    age = row["age_why_not"] if row["age"] is None else f"{row['age']:.0f}"
    if row["age"] is not None and row["age_low"] is not None:
        age += f" ({row['age_low']:.0f} to {row['age_high']:.0f})"
    gender = row["gender"] if row["gender"] in ("M", "F") else row["gender_why_not"]
    return f"age: {age or 'none'}; gender: {gender or 'none'}"


def _rounded(box: NDArray[np.floating]) -> Box:
    left, top, right, bottom = np.round(box, 1).tolist()
    return left, top, right, bottom
