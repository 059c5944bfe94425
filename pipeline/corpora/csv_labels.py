"""Labelled faces from a CSV with the columns path, age and gender, one row per picture.

- path: absolute, or relative to the CSV's folder
- age: years, or an inclusive range such as 25-32 or (25, 32). Empty or `unknown`: unknown.
- gender: M or F, or male or female in any case. Empty, N or `unknown`: unknown.
- group, person: optional columns.
"""

import math
import os
import re
from pathlib import Path

import pandas as pd

from pipeline.corpora import faces
from pipeline.errors import UserError

COLUMNS = ("path", "age", "gender")
GENDERS = {"m": "M", "male": "M", "f": "F", "female": "F", "": None, "n": None, "unknown": None}

_NUMBER = r"(\d{1,3}(?:\.\d+)?)"
OLDEST = 125
"""Years. Nobody is known to have become older."""
_EXACT = re.compile(_NUMBER, re.ASCII)
_RANGE = re.compile(rf"\(?{_NUMBER}\s*[-–,]\s*{_NUMBER}\)?", re.ASCII)


def load(path: Path | str, pictures: Path | None = None) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of the CSV `path`.

    pictures: the folder that relative paths start from. The default is the CSV's folder.

    Raises UserError, with the line, if a column or picture is missing, a picture is named twice, or a value cannot be
    read.
    """
    file = Path(path)
    root = pictures or file.parent
    rows = faces.read_rows(file, COLUMNS)
    if rows.empty:
        raise UserError(f"{file} has no row below its header; name a CSV with a row for each picture")
    labels: list[tuple[float, float, str | None]] = []
    for line, (age, gender) in enumerate(zip(rows.age, rows.gender, strict=True), 2):
        where = f"{file}, line {line}"
        low, high = read_age(age, where)
        labels.append((low, high, read_gender(gender, where)))
    names = rows.path.tolist()
    for line, name in enumerate(names, 2):
        if not name or not (root / name).is_file():
            raise UserError(f"{file}, line {line}: there is no picture {root / name}; correct the path or drop the row")
    again = rows.path.duplicated()
    if again.any():
        line = int(again.to_numpy().argmax()) + 2
        raise UserError(f"{file}, line {line}: {names[line - 2]} is named a second time; keep one row for each picture")
    return faces.table(
        root,
        names,
        age=[(low + high) / 2 for low, high, _ in labels],
        age_low=[low for low, _, _ in labels],
        age_high=[high for _, high, _ in labels],
        gender=[gender for _, _, gender in labels],
        group=_optional(rows, "group"),
        person=_optional(rows, "person"),
        source=file.stem,
    )


def read_age(text: str, where: str) -> tuple[float, float]:
    """Return both ends of an age or age range, or (NaN, NaN) for `unknown` or empty text.

    Raises UserError that names `where`.
    """
    text = text.strip()
    if text.lower() in ("", "unknown"):
        return float("nan"), float("nan")
    match = _EXACT.fullmatch(text) or _RANGE.fullmatch(text)
    low, high = (float(match[1]), float(match[match.lastindex or 1])) if match else (1.0, 0.0)
    if not low <= high <= OLDEST:
        raise UserError(f"{where}: age must be years up to {OLDEST}, a range as 25-32, or unknown, got {text!r}")
    return low, high


def read_gender(text: str, where: str) -> str | None:
    """Return 'M', 'F' or None. Raises UserError that names `where`."""
    if text.strip().lower() not in GENDERS:
        raise UserError(f"{where}: gender must be M, F, male, female, or empty, got {text!r}")
    return GENDERS[text.strip().lower()]


def _optional(rows: pd.DataFrame, name: str) -> list[str | None] | None:
    return [text or None for text in rows[name]] if name in rows else None


def write(table: pd.DataFrame, path: Path | str) -> None:
    """Write labelled faces as a CSV that `load` reads. Pictures below the CSV's folder get relative paths."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    home = file.parent.resolve()
    pictures = [Path(picture).resolve() for picture in table["path"]]
    rows = pd.DataFrame(
        {
            "path": [(p.relative_to(home) if p.is_relative_to(home) else p).as_posix() for p in pictures],
            "age": [age_text(low, high) for low, high in zip(table["age_low"], table["age_high"], strict=True)],
            **{name: table[name] for name in ("gender", "group", "person", "source")},
        }
    )
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    rows.to_csv(draft, index=False, lineterminator="\n")
    draft.replace(file)


def age_text(low: float, high: float) -> str:
    """Return an age, a range, or empty text, in the form that `read_age` reads."""
    return "" if math.isnan(low) else f"{low:g}" if low == high else f"{low:g}-{high:g}"
