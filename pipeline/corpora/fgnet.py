"""FG-NET: 1,002 pictures of 82 people, named by person and age: `001A02.JPG`, or `001A43a.JPG` if an age has several.

Its labels have no gender. Licence: research only.
"""

import re
from pathlib import Path

import pandas as pd

from pipeline.corpora import faces
from pipeline.errors import UserError

_NAME = re.compile(r"(?P<person>\d{3})A(?P<age>\d{2})[a-z]?\.jpe?g", re.IGNORECASE | re.ASCII)
PATH_COLUMN = "full_path"


def load(source: Path | str, pictures: Path | None = None) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of FG-NET.

    source: the folder of its pictures, or a CSV with a column full_path and optionally a column age. The age in the
        file name counts. The function does not check that pictures named by a CSV exist.
    pictures: the folder that the CSV's paths start from. The default is the CSV's folder.

    Raises UserError if a name has another form, or the CSV states another age than the name.
    """
    path = Path(source)
    if path.is_file():
        return _table(pictures or path.parent, _listed(path))
    root = faces.folder(path)
    return _table(root, faces.pictures(root))


def _table(root: Path, names: list[str]) -> pd.DataFrame:
    labels = [_label(name, root) for name in names]
    ages, people = [age for age, _ in labels], [person for _, person in labels]
    return faces.table(root, names, age=ages, gender=[None] * len(names), person=people, source="FG-NET")


def _label(name: str, root: Path) -> tuple[float, str]:
    match = _NAME.fullmatch(Path(name).name)
    if match is None:
        raise UserError(f"{root / name} is not named as FG-NET's pictures are, 001A02.JPG; take it out of the data set")
    return float(match["age"]), match["person"]


def _listed(path: Path) -> list[str]:
    rows = faces.read_rows(path, (PATH_COLUMN,))
    names = rows[PATH_COLUMN].tolist()
    for line, (name, age) in enumerate(zip(names, rows.get("age", [""] * len(names)), strict=True), 2):
        if age and str(float(_label(name, path.parent)[0])) != str(float(age)):
            raise UserError(f"{path}, line {line}: {name} is named for another age than {age}; correct one of them")
    return names


def is_name(name: str) -> bool:
    """Return whether a file name has FG-NET's form."""
    return _NAME.fullmatch(name) is not None
