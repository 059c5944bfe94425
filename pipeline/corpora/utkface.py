"""UTKFace: aligned faces whose file names are their labels, `age_gender_race_date.jpg`
(https://susanqq.github.io/UTKFace).

Licence: non-commercial research only.
"""

import re
from pathlib import Path

import pandas as pd

from pipeline.corpora import faces

GENDERS = {"0": "M", "1": "F"}
GROUPS = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Others"}
"""The corpus's own names. Others includes Hispanic, Latino and Middle Eastern."""

_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?:(?P<group>[0-4])_)?(?P<date>\d{8,})", re.ASCII)


def load(folder: Path | str) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of all pictures below `folder`, ordered by name.

    A name without the race has no group; the release holds three. A picture whose name has another form has no age and
    no gender, and `clean` counts it. Ages go up to 116, as the names state them.
    """
    root = faces.folder(folder)
    names = faces.pictures(root)
    labels = [_NAME.match(Path(name).name) for name in names]
    return faces.table(
        root,
        names,
        age=[float(match["age"]) if match else None for match in labels],
        gender=[GENDERS[match["gender"]] if match else None for match in labels],
        group=[GROUPS.get(match["group"]) if match else None for match in labels],
        source="UTKFace",
    )


def is_name(name: str) -> bool:
    """Return whether a file name has UTKFace's form."""
    return _NAME.match(name) is not None
