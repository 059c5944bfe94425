"""Labelled persons of videos from a CSV, one row per person, each at a moment when the person shows well.

- video: name of the file, with or without its folders and its suffix
- time_s: the moment, seconds from the first displayed frame
- bb_xmin, bb_ymin, bb_width, bb_height: box of the person at that moment, px, as in `detections`
- age, gender: in the form of `csv_labels`. `unknown`: nobody can tell.
- face_px: width of the person's face in px, at its best in the video. Empty or 0: no face shows.
- note: optional free text
"""

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora import csv_labels, faces
from pipeline.errors import UserError

BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
COLUMNS = ("video", "time_s", *BOX, "age", "gender", "face_px")


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """A person of a video as somebody labelled it.

    video: name of the file.
    time_s: a moment, seconds.
    box: xyxy px at that moment.
    age_low, age_high: years, both included. nan: cannot tell.
    gender: M, F, or None: cannot tell.
    face_px: width of the face, 0 if no face shows.
    """

    video: str
    time_s: float
    box: tuple[float, float, float, float]
    age_low: float
    age_high: float
    gender: str | None
    face_px: float

    @property
    def age(self) -> float:
        """The middle of the ages, nan if nobody can tell."""
        return (self.age_low + self.age_high) / 2


def read_persons(path: Path) -> list[LabelledPerson]:
    """Return the rows of the CSV. Raises UserError, with the line, if a column is missing or a value cannot be read."""
    rows = faces.read_rows(path, COLUMNS)
    if rows.empty:
        raise UserError(f"{path} has no row below its header; give it a row for each person")
    persons: list[LabelledPerson] = []
    for line, row in enumerate(rows.to_dict("records"), 2):
        where = f"{path}, line {line}"
        if not row["video"].strip():
            raise UserError(f"{where}: video is empty; name the file of the video")
        left, top, width, height = (_number(row[name], name, where) for name in BOX)
        if min(width, height) <= 0:
            raise UserError(f"{where}: the box has no area; bb_width and bb_height must be above 0")
        low, high = csv_labels.read_age(row["age"], where)
        persons.append(
            LabelledPerson(
                row["video"].strip(),
                _number(row["time_s"], "time_s", where),
                (left, top, left + width, top + height),
                low,
                high,
                csv_labels.read_gender(row["gender"], where),
                _number(row["face_px"] or "0", "face_px", where),
            )
        )
    return persons


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {name} must be a number, got {text!r}")
    return number
