"""Labelled persons of videos from a CSV: a row per person, at a moment when the person shows well, or several rows at
several moments.

- video: name of the file, with or without its folders and its suffix
- time_s: the moment, seconds from the first displayed frame
- bb_xmin, bb_ymin, bb_width, bb_height: box of the person at that moment, px, as in `detections`
- age, gender: in the form of `csv_labels`. `unknown`: nobody can tell.
- face_px: width of the person's face in px, at its best in the video. Empty or 0: no face shows.

Four columns may be left out:

- person: a name. Rows of one video with the same name are one person at several moments. Empty: a person of its own.
- drop: 1 for a box that is no person of its own, such as a statue or a person with another row. The row does not count.
- blind: 1 if nobody saw an estimate before the label was given. Empty or 0: unknown, or somebody did.
- note: free text
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline.corpora import csv_labels, faces
from pipeline.errors import UserError

BOX = ("bb_xmin", "bb_ymin", "bb_width", "bb_height")
PLACE = ("video", "time_s", *BOX)
"""The columns that name a person."""
COLUMNS = (*PLACE, "age", "gender", "face_px")
MAY_LACK = ("person", "drop", "blind", "note")
UNKNOWN = "unknown"
"""The age or gender that nobody can tell."""

Row = Mapping[str, str]
"""A row as it is written: text by column."""


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A person's box at a moment: a row of the list.

    time_s: seconds.
    box: xyxy px.
    line: of the file. 0 if it came from none.
    """

    time_s: float
    box: tuple[float, float, float, float]
    line: int = 0


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """A person of a video as somebody labelled it.

    video: name of the file.
    boxes: at one moment or several. The first is that of the row with all that follows.
    age_low, age_high: years, both included. nan: cannot tell.
    gender: M, F, or None: cannot tell.
    face_px: width of the face, 0 if no face shows.
    is_blind: whether nobody saw an estimate before the label was given.
    """

    video: str
    boxes: tuple[LabelledBox, ...]
    age_low: float
    age_high: float
    gender: str | None
    face_px: float
    is_blind: bool = False

    @property
    def age(self) -> float:
        """The middle of the ages, nan if nobody can tell."""
        return (self.age_low + self.age_high) / 2

    @property
    def time_s(self) -> float:
        """The first labelled moment."""
        return self.boxes[0].time_s

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box at the first labelled moment."""
        return self.boxes[0].box


def read_persons(path: Path) -> list[LabelledPerson]:
    """Return the persons of the CSV that count. Raises UserError, with the line, if a column is missing, a value cannot
    be read, or rows of one person contradict each other."""
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} has no row below its header; give it a row for each person")
    first_lines: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(rows, 2):
        if (first := first_lines.setdefault(place_of(row), line)) != line:
            raise UserError(f"{path}, line {line}: the person of line {first} is here again; delete one of them")
    persons: dict[tuple[str, ...], LabelledPerson] = {}
    for line, row in enumerate(rows, 2):
        person = parse(row, f"{path}, line {line}", line)
        if row["drop"] != "1":
            key = (person.video, row["person"]) if row["person"] else place_of(row)
            persons[key] = _joined(persons[key], person, f"{path}, line {line}") if key in persons else person
    if not persons:
        raise UserError(f"{path} has no person: drop is 1 in all of its rows; give it a row for each person")
    return list(persons.values())


def _joined(person: LabelledPerson, other: LabelledPerson, where: str) -> LabelledPerson:
    """Return a person with one more moment. Its age, gender and face are those of its first row."""
    (box,), first = other.boxes, person.boxes[0].line
    if other.gender not in (None, person.gender):
        raise UserError(f"{where}: the gender is another one than in line {first}, of the same person; correct one")
    if any(known.time_s == box.time_s for known in person.boxes):
        raise UserError(
            f"{where}: the person of line {first} has another box at this moment; give one another time_s or name"
        )
    return replace(person, boxes=(*person.boxes, box))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return every row of the CSV as text, with empty text for a column of MAY_LACK that it lacks. Raises UserError."""
    rows = faces.read_rows(path, COLUMNS).fillna("")
    for name in MAY_LACK:
        rows[name] = rows[name].str.strip() if name in rows else ""
    return [{str(name): text for name, text in row.items()} for row in rows.to_dict("records")]


def parse(row: Row, where: str, line: int = 0) -> LabelledPerson:
    """Return the person of a row, which stands in a line. Raises UserError that names `where` if a value cannot be
    read."""
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
    time_s = _number(row["time_s"], "time_s", where)
    if time_s < 0:
        raise UserError(f"{where}: time_s must not be below 0, got {row['time_s']!r}")
    return LabelledPerson(
        row["video"].strip(),
        (LabelledBox(time_s, (left, top, left + width, top + height), line),),
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
