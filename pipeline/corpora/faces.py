"""Labelled faces: the one table that every loader returns.

Each row is a picture of a face. Unknown values are None or NaN. Columns (`COLUMNS`):

- path: str. Where the picture is.
- name: str. Path below the corpus folder with `/` between, unique. Splits and corrections refer to it.
- age: float, years. The middle of [age_low, age_high].
- age_low, age_high: float, years, inclusive. Equal if the label is exact.
- gender: 'M' or 'F'
- group: str. The corpus's own label of ethnic group.
- person: str. The person, in the corpus's own terms. A person is never on both sides of a split.
- source: str. The corpus.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError, absent

COLUMNS = ("path", "name", "age", "age_low", "age_high", "gender", "group", "person", "source")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def folder(path: Path | str) -> Path:
    """Return `path` as a Path. Raises UserError if it is not a folder."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name the folder that holds the data set's pictures")
    return root


def pictures(root: Path) -> list[str]:
    """Return the sorted names of all pictures below `root`, without hidden ones. Raises UserError if there are none."""
    names = sorted(
        name.as_posix()
        for name in (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not any(part.startswith(".") for part in name.parts)
    )
    if not names:
        raise UserError(f"no picture ({', '.join(SUFFIXES)}) in {root}; name the folder that holds the pictures")
    return names


def read_rows(file: Path, columns: Sequence[str], separator: str = ",") -> pd.DataFrame:
    """Return the rows of a text table, with all values as text, without empty lines at its end.

    Raises UserError if the file cannot be read or lacks one of `columns`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # By default the first cells of rows that are longer than the header become an index, and all values slide.
            rows = pd.read_csv(
                file, sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
            )
    except FileNotFoundError as error:
        raise absent(file) from error
    except IsADirectoryError as error:
        raise UserError(f"{file} is a folder; name a table in it") from error
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{file} is empty; name a table with a header") from error
    except pd.errors.ParserWarning as error:
        raise UserError(
            f"{file} has rows with more cells than its header; put cells that hold commas between quotes"
        ) from error
    except (ValueError, OSError) as error:  # errors of pandas and of Unicode are ValueErrors
        raise UserError(f"{file} cannot be read as a table in UTF-8 ({error}); save it as CSV in UTF-8") from error
    filled = (rows.fillna("") != "").any(axis=1).to_numpy()
    rows = rows.iloc[: len(rows) - int(np.argmax(filled[::-1])) if filled.any() else 0]
    if separator == "," and columns and len(rows.columns) == 1 and ";" in str(rows.columns[0]):
        raise UserError(f"{file} has semicolons between its columns; save it with commas")
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
    """Return the columns as a table. Ages without ranges are exact; group and person may be unknown."""
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
