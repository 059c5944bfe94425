"""UTKFace: aligned faces whose labels are their names, `age_gender_race_date.jpg` (https://susanqq.github.io/UTKFace).

Licence: non-commercial research only.
"""

import re
from pathlib import Path

import pandas as pd

from pipeline.corpora import faces

GENDERS = {"0": "M", "1": "F"}
GROUPS = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Others"}
"""By the data set's documentation; Others: such as Hispanic, Latino, Middle Eastern."""

_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?:(?P<group>[0-4])_)?(?P<date>\d{8,})", re.ASCII)


def load(folder: Path | str) -> pd.DataFrame:
    """The table (`faces.COLUMNS`) of all pictures below `folder`, in the order of their names.

    A name without the race, of which the release holds three, has no group. A picture whose name is of another form
    has no age and no gender: cleaning counts it. Ages are as the names have them, up to 116.
    """
    root = faces.folder(folder)
    found = faces.pictures(root)
    labels = [_NAME.match(Path(name).name) for name in found]
    return faces.table(
        root,
        found,
        age=[float(match["age"]) if match else None for match in labels],
        gender=[GENDERS[match["gender"]] if match else None for match in labels],
        group=[GROUPS.get(match["group"]) if match else None for match in labels],
        source="UTKFace",
    )


def is_name(name: str) -> bool:
    """Whether a picture is named as UTKFace's are."""
    return _NAME.match(name) is not None
