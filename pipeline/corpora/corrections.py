"""Corrections of labels: a CSV that `rollcall review` writes and that every loader applies.

- path: the picture's name in its corpus (`faces.COLUMNS`), or its full path
- age, gender: the correct value in the form of `csv_labels`. Empty: the label stands.
- drop: 1 to leave the picture out. Empty or 0: keep it.
- note: free text

A row that changes nothing records that somebody checked the label. If a picture has several rows, the last one counts.
"""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from pipeline.corpora import csv_labels
from pipeline.errors import UserError, absent

COLUMNS = ("path", "age", "gender", "drop", "note")


@dataclass(frozen=True, slots=True)
class Correction:
    """One row: a reviewer's verdict on one picture, as text."""

    path: str
    age: str = ""
    gender: str = ""
    drop: str = ""
    note: str = ""


def apply(table: pd.DataFrame, path: Path | str) -> pd.DataFrame:
    """Return the table with corrected labels and without dropped pictures.

    Raises UserError, with the line, for an unknown picture or a value that cannot be read.
    """
    row_by_key = {path: row for row, path in enumerate(table["path"])} | {n: row for row, n in enumerate(table["name"])}
    table = table.reset_index(drop=True).copy()
    dropped: set[int] = set()
    for line, correction in _last(read(path)).values():
        where = f"{path}, line {line}"
        row = row_by_key.get(correction.path)
        if row is None:
            raise UserError(f"{where}: the data set has no picture {correction.path}; are these its corrections?")
        low, high = csv_labels.read_age(correction.age, where)
        if not math.isnan(low):
            table.loc[row, ["age", "age_low", "age_high"]] = (low + high) / 2, low, high
        gender = csv_labels.read_gender(correction.gender, where)
        if gender is not None:
            table.loc[row, "gender"] = gender
        if correction.drop.strip() not in ("", "0", "1"):
            raise UserError(f"{where}: drop must be 1, 0 or empty, got {correction.drop!r}")
        dropped |= {row} if correction.drop.strip() == "1" else set()
    return table.drop(index=sorted(dropped)).reset_index(drop=True)


def read(path: Path | str) -> list[tuple[int, Correction]]:
    """Return every row with its line number, in order. A last line without a line end is incomplete and is ignored."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise absent(file, "file of corrections") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the corrections {file} cannot be read ({error}); `rollcall review` writes them") from error
    rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    header = next(rows, None)
    if header is not None and tuple(header) != COLUMNS:
        raise UserError(
            f"{file} must have the columns {', '.join(COLUMNS)}, got {', '.join(header)}; `rollcall review` writes them"
        )
    corrections: list[tuple[int, Correction]] = []
    for row in rows:
        if len(row) != len(COLUMNS):
            raise UserError(
                f"{file}, line {rows.line_num}: must have {len(COLUMNS)} values, got {len(row)}; correct the line"
            )
        corrections.append((rows.line_num, Correction(*row)))
    return corrections


def append(path: Path | str, correction: Correction) -> None:
    """Append one row. It is on disk when the function returns."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if whole == 0:
            writer.writerow(COLUMNS)
        writer.writerow(_on_one_line(value) for value in astuple(correction))
        stream.write(text.getvalue().encode())
        stream.flush()
        os.fsync(stream.fileno())


def _last(lines: Sequence[tuple[int, Correction]]) -> Mapping[str, tuple[int, Correction]]:
    return {correction.path: (line, correction) for line, correction in lines}


def _on_one_line(text: str) -> str:
    return " ".join(text.splitlines())
