"""Adience: tab-separated folds, `fold_0_data.txt` to `fold_4_data.txt` (https://talhassner.github.io, project Adience).

Each row is one face in one photo of an album:

- user_id: the album
- original_image: the photo
- face_id: the person within the album
- age: a range such as `(25, 32)`, a number, or `None`
- gender: m, f, u, or empty

Licence: research only.
"""

import re
from pathlib import Path

import pandas as pd

from pipeline.corpora import faces
from pipeline.errors import UserError

FOLDS = "fold_*_data.txt"
COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
PREFIXES = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}
"""The prefix of the picture names in each of the archive's two folders."""

_RANGE = re.compile(r"\((\d+), ?(\d+)\)", re.ASCII)


def load(source: Path | str, pictures: Path | None = None) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of one fold or of a folder of folds, plus a column `fold`.

    For a range, age_low and age_high are its ends and age is its middle. A person is one face_id of one album. The
    function does not check that the pictures exist.

    pictures: the archive's folder `aligned` or `faces`. The default is `aligned` beside the folds.

    Raises UserError if there is no fold or a fold cannot be read.
    """
    path = Path(source)
    folds = [path] if path.is_file() else sorted(faces.folder(path).glob(FOLDS))
    if not folds:
        raise UserError(f"no fold ({FOLDS}) in {path}; name the folder that holds Adience's folds")
    root = pictures or (path.parent if path.is_file() else path) / "aligned"
    prefix = PREFIXES.get(root.name, PREFIXES["aligned"])
    rows = pd.concat([_read(fold, number) for number, fold in enumerate(folds)], ignore_index=True)
    ranges = [_age_range(age, fold, line) for age, fold, line in zip(rows.age, rows.file, rows.line, strict=True)]
    table = faces.table(
        root,
        (rows.user_id + f"/{prefix}." + rows.face_id + "." + rows.original_image).tolist(),
        age=[None if ends is None else sum(ends) / 2 for ends in ranges],
        age_low=[None if ends is None else ends[0] for ends in ranges],
        age_high=[None if ends is None else ends[1] for ends in ranges],
        gender=[gender.upper() if gender in ("m", "f") else None for gender in rows.gender],
        person=(rows.user_id + "/" + rows.face_id).tolist(),
        source="Adience",
    )
    table["fold"] = rows.fold
    return table


def _read(fold: Path, number: int) -> pd.DataFrame:
    rows = faces.read_rows(fold, COLUMNS, "\t")
    digits = re.search(r"\d+", fold.name)
    return rows.assign(fold=int(digits[0]) if digits else number, file=str(fold), line=range(2, len(rows) + 2))


def _age_range(age: str, fold: str, line: int) -> tuple[float, float] | None:
    if age in ("", "None"):
        return None
    match = _RANGE.fullmatch(age)
    if match:
        return float(match[1]), float(match[2])
    if not age.isdecimal():
        raise UserError(f"{fold}, line {line}: age must be a number, a range as (25, 32), or None, got {age!r}")
    return float(age), float(age)
