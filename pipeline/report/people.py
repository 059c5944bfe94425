"""The persons of an output as columns, and which of them are the same person in a sequence of files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.report.values import integers, places, reals

PERSONS = (
    *("video_id", "person_id", "start_s", "end_s", "num_faces"),
    *("age", "age_low", "age_high", "gender", "age_why_not", "gender_why_not"),
)
"""The columns of `persons` that a report reads."""
GENDERS = ("F", "M", "N")
MAX_PERSONS = 1 << 32
"""More than any video has. It makes one number of a video and a person in it."""


@dataclass(frozen=True, slots=True)
class People:
    """The persons of all finished videos, ordered by video and person_id: N rows.

    video: (N,) int64. Index into the videos.
    person_id: (N,) int64.
    start_s, end_s: (N,) float64, s of the video.
    num_faces: (N,) int64. Judged faces.
    age, low, high: (N,) float64, years and their 80 % interval, nan without an estimate.
    gender: (N,) int64. Index into GENDERS.
    age_why_not, gender_why_not: N reasons, None where there is an estimate.
    individual: (N,) int64. Equal numbers are one person, by the dataset `sequences`.
    """

    video: NDArray[np.int64]
    person_id: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    num_faces: NDArray[np.int64]
    age: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    gender: NDArray[np.int64]
    age_why_not: Sequence[str | None]
    gender_why_not: Sequence[str | None]
    individual: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.video)

    def rows_of(self, video: NDArray[np.int64], person_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each person that the columns of another table name: (M,) int64, -1 for none."""
        keys, wanted = self.video * MAX_PERSONS + self.person_id, video * MAX_PERSONS + person_id
        rows = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        return np.where((video >= 0) & (keys[rows] == wanted), rows, -1) if len(keys) else np.full(len(video), -1)


def people_of(persons: pa.Table, sequences: pa.Table, index_of: Mapping[str, int]) -> People:
    """Return the persons of the videos in `index_of`.

    persons: the columns PERSONS.
    sequences: the dataset.
    index_of: place of a video by its video_id.
    """
    video, person_id = places(persons, "video_id", index_of), integers(persons, "person_id")
    order = np.lexsort((person_id, video))
    order = order[video[order] >= 0]
    genders = {name: place for place, name in enumerate(GENDERS)}
    gender = np.array([genders.get(name, genders["N"]) for name in persons["gender"].to_pylist()], np.int64)
    reasons = {name: persons[name].to_pylist() for name in ("age_why_not", "gender_why_not")}
    video, person_id = video[order], person_id[order]
    return People(
        video=video,
        person_id=person_id,
        gender=gender[order] if len(order) else np.zeros(0, np.int64),
        individual=_individuals(video, person_id, sequences, index_of),
        start_s=reals(persons, "start_s")[order],
        end_s=reals(persons, "end_s")[order],
        age=reals(persons, "age")[order],
        low=reals(persons, "age_low")[order],
        high=reals(persons, "age_high")[order],
        num_faces=integers(persons, "num_faces")[order],
        age_why_not=[reasons["age_why_not"][place] for place in order],
        gender_why_not=[reasons["gender_why_not"][place] for place in order],
    )


def _individuals(
    video: NDArray[np.int64], person_id: NDArray[np.int64], sequences: pa.Table, index_of: Mapping[str, int]
) -> NDArray[np.int64]:
    """Return a number for each person. The persons of a sequence with one sequence_person_id share theirs."""
    first_of: dict[tuple[str, int], int] = {}
    known = {
        (index_of.get(row["video_id"], -1), row["person_id"]): (row["sequence"], row["sequence_person_id"])
        for row in sequences.to_pylist()
    }
    numbers = np.arange(len(video))
    if known:
        for row, key in enumerate(zip(video.tolist(), person_id.tolist(), strict=True)):
            if key in known:
                numbers[row] = first_of.setdefault(known[key], row)
    return numbers


def representatives(people: People, rows: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of `rows` that speaks for each individual on each day: (M,) int64, ascending.

    It is the row with the most judged faces. days: (N,) int64, the day of each row of `people`.
    """
    order = np.lexsort((rows, -people.num_faces[rows], days[rows], people.individual[rows]))
    keys = np.stack([people.individual[rows[order]], days[rows[order]]], axis=1)
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return np.sort(rows[order[is_first]])


def recording_starts(
    videos: Sequence[Mapping[str, Any]], sources: Sequence[Mapping[str, Any]]
) -> list[datetime | None]:
    """Return when the recording of each video began: by the list that named it, else by its container, else None."""
    listed: dict[str, datetime] = {}
    for source in sources:
        if source["current"] and source["recorded_at"] is not None:
            listed[source["video_id"]] = min(
                source["recorded_at"], listed.get(source["video_id"], source["recorded_at"])
            )
    return [listed.get(row["video_id"], row["recorded_at"]) for row in videos]
