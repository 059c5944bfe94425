"""Labelled persons of videos from a CSV, one row per person, each at a moment when the person shows well.

- video: name of the file, with or without its folders and its suffix
- time_s: the moment, seconds from the first displayed frame
- bb_xmin, bb_ymin, bb_width, bb_height: box of the person at that moment, px, as in `detections`
- age, gender: in the form of `csv_labels`. `unknown`: nobody can tell.
- face_px: width of the person's face in px, at its best in the video. Empty or 0: no face shows.

Three columns may be left out:

- drop: 1 for a box that is no person of its own, such as a statue or a person with another row. The row does not count.
- blind: 1 if nobody saw an estimate before the label was given. Empty or 0: unknown, or somebody did.
- note: free text
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.corpora import csv_labels, faces
from pipeline.errors import UserError

BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
PLACE = ("video", "time_s", *BOX)
"""The columns that name a person."""
COLUMNS = (*PLACE, "age", "gender", "face_px")
MAY_LACK = ("drop", "blind", "note")
UNKNOWN = "unknown"
"""The age or gender that nobody can tell."""

Row = Mapping[str, str]
"""A row as it is written: text by column."""


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """A person of a video as somebody labelled it.

    video: name of the file.
    time_s: a moment, seconds.
    box: xyxy px at that moment.
    age_low, age_high: years, both included. nan: cannot tell.
    gender: M, F, or None: cannot tell.
    face_px: width of the face, 0 if no face shows.
    is_blind: whether nobody saw an estimate before the label was given.
    """

    video: str
    time_s: float
    box: tuple[float, float, float, float]
    age_low: float
    age_high: float
    gender: str | None
    face_px: float
    is_blind: bool = False

    @property
    def age(self) -> float:
        """The middle of the ages, nan if nobody can tell."""
        return (self.age_low + self.age_high) / 2


def read_persons(path: Path) -> list[LabelledPerson]:
    """Return the persons of the CSV that count. Raises UserError, with the line, if a column is missing or a value
    cannot be read."""
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} has no row below its header; give it a row for each person")
    first_lines: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(rows, 2):
        if (first := first_lines.setdefault(place_of(row), line)) != line:
            raise UserError(f"{path}, line {line}: the person of line {first} is here again; delete one of them")
    labelled = [(parse(row, f"{path}, line {line}"), row) for line, row in enumerate(rows, 2)]
    persons = [person for person, row in labelled if row["drop"] != "1"]
    if not persons:
        raise UserError(f"{path} has no person: drop is 1 in all of its rows; give it a row for each person")
    return persons


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return every row of the CSV as text, with empty text for a column of MAY_LACK that it lacks. Raises UserError."""
    rows = faces.read_rows(path, COLUMNS).fillna("")
    for name in MAY_LACK:
        rows[name] = rows[name].str.strip() if name in rows else ""
    return [{str(name): text for name, text in row.items()} for row in rows.to_dict("records")]


def parse(row: Row, where: str) -> LabelledPerson:
    """Return the person of a row. Raises UserError that names `where` if a value cannot be read."""
    if not row["video"].strip():
        raise UserError(f"{where}: video is empty; name the file of the video")
    left, top, width, height = (_number(row[name], name, where) for name in BOX)
    if min(width, height) <= 0:
        raise UserError(f"{where}: the box has no area; bb_width and bb_height must be above 0")
    for name in ("drop", "blind"):
        if row[name] not in ("", "0", "1"):
            raise UserError(f"{where}: {name} must be 1, 0 or empty, got {row[name]!r}")
    low, high = csv_labels.read_age(row["age"], where)
    face_px = _number(row["face_px"].strip() or "0", "face_px", where)
    if face_px < 0:
        raise UserError(f"{where}: face_px must not be below 0, got {row['face_px']!r}")
    return LabelledPerson(
        row["video"].strip(),
        _number(row["time_s"], "time_s", where),
        (left, top, left + width, top + height),
        low,
        high,
        csv_labels.read_gender(row["gender"], where),
        face_px,
        row["blind"] == "1",
    )


def put_row(path: Path, row: Row, instead_of: Row | None = None) -> None:
    """Write a row into the CSV: in place of the one with the PLACE of `instead_of` or of itself, or else at the end.

    The file is complete at any moment, and its other rows and columns stay. Raises UserError if an existing file is no
    such CSV.
    """
    rows = read_rows(path) if path.exists() else []
    place = place_of(instead_of or row)
    at = next((at for at, other in enumerate(rows) if place_of(other) == place), len(rows))
    rows[at : at + 1] = [{**(rows[at] if at < len(rows) else {}), **row}]
    columns = list(dict.fromkeys(name for written in rows for name in written))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    pd.DataFrame(rows, columns=columns).fillna("").to_csv(draft, index=False, lineterminator="\n")
    draft.replace(path)


def place_of(row: Row) -> tuple[str, ...]:
    """Return the text of PLACE, by which a row is known."""
    return tuple(row[name].strip() for name in PLACE)


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {name} must be a number, got {text!r}")
    return number
