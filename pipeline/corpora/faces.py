"""Labelled faces: the one table that every loader gives.

A row is a picture of a face. Columns (`COLUMNS`), one missing value for "not known", None or NaN:

- path: str, where the picture lies
- name: str, the same below the data set's folder with `/` between, unique: what splits and corrections go by
- age: float, years; the middle of [age_low, age_high] where the label is a range
- age_low, age_high: float, years, both inclusive; equal where the label is exact
- gender: 'M' or 'F'
- group: str, the data set's own label of ethnic group
- person: str, who it is, in the data set's own terms; one person is never on both sides of a split
- source: str, the data set
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError

COLUMNS = ("path", "name", "age", "age_low", "age_high", "gender", "group", "person", "source")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def folder(path: Path | str) -> Path:
    """`path` as a Path; UserError if there is no such folder."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name the folder that holds the data set's pictures")
    return root


def pictures(root: Path) -> list[str]:
    """Names below `root` of all pictures, ordered; hidden files and folders are passed over; UserError if none."""
    found = sorted(
        name.as_posix()
        for name in (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not any(part.startswith(".") for part in name.parts)
    )
    if not found:
        raise UserError(f"no picture ({', '.join(SUFFIXES)}) in {root}; name the folder that holds the pictures")
    return found


def read_rows(file: Path, columns: Sequence[str], separator: str = ",") -> pd.DataFrame:
    """The rows of a text table, all values as text; UserError if it cannot be read, or lacks one of `columns`."""
    try:
        rows = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}") from error
    except (ValueError, OSError) as error:  # pandas' and Unicode's errors are ValueErrors
        raise UserError(f"{file} cannot be read as a table in UTF-8 ({error})") from error
    if missing := [name for name in columns if name not in rows]:
        raise UserError(f"{file} must have the columns {', '.join(columns)}; there is no {', '.join(missing)}")
    return rows


def table(
    root: Path,
    names: Sequence[str],
    *,
    age: Iterable[float | None],
    gender: Iterable[str | None],
    source: str,
    age_low: Iterable[float | None] | None = None,
    age_high: Iterable[float | None] | None = None,
    group: Iterable[str | None] | None = None,
    person: Iterable[str | None] | None = None,
) -> pd.DataFrame:
    """Columns as a table; ages without ranges are exact, groups and people may be unknown."""
    exact = np.array(list(age), np.float64)
    none = [None] * len(names)
    return pd.DataFrame(
        {
            "path": [str(root / name) for name in names],
            "name": list(names),
            "age": exact,
            "age_low": exact if age_low is None else np.array(list(age_low), np.float64),
            "age_high": exact if age_high is None else np.array(list(age_high), np.float64),
            "gender": pd.Series(list(gender), dtype=object),
            "group": pd.Series(none if group is None else list(group), dtype=object),
            "person": pd.Series(none if person is None else list(person), dtype=object),
            "source": source,
        },
        columns=list(COLUMNS),
    )
