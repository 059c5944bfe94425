"""Rules that remove labelled faces which are unfit for training or evaluation, and count what each rule removed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MIN_AGE, MAX_AGE = 0, 100

NO_PICTURE = "no picture"


def _outside(table: pd.DataFrame) -> NDArray[np.bool_]:
    return ((table["age_low"] < MIN_AGE) | (table["age_high"] > MAX_AGE)).to_numpy()


def _faceless(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return True where the archive's own detector found no face. A corpus without face scores holds only faces."""
    return ~np.isfinite(table["face_score"].to_numpy()) if "face_score" in table else np.zeros(len(table), bool)


def _crowded(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return True where there is a second face, so nobody knows whose age the label is."""
    second = table.get("second_face_score")
    return np.zeros(len(table), bool) if second is None else second.notna().to_numpy()


def _pictureless(table: pd.DataFrame) -> NDArray[np.bool_]:
    return np.array([not Path(path).is_file() for path in table["path"]], bool)


RULES: Mapping[str, Callable[[pd.DataFrame], NDArray[np.bool_]]] = {
    "no age": lambda table: table["age"].isna().to_numpy(),
    f"age outside {MIN_AGE}..{MAX_AGE}": _outside,
    "no face score": _faceless,
    "a second face": _crowded,
    "no gender": lambda table: table["gender"].isna().to_numpy(),
    NO_PICTURE: _pictureless,
}
"""Each rule maps a table of N rows to (N,) bool: the rows to remove. The rules apply in this order."""

LABELS = tuple(name for name in RULES if name != NO_PICTURE)
"""The rules that need only the labels."""


def clean(table: pd.DataFrame, rules: Sequence[str] = LABELS) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows that pass all `rules`, and how many rows each rule removed from those before it left."""
    removed: dict[str, int] = {}
    for name in rules:
        unfit = RULES[name](table)
        removed[name] = int(unfit.sum())
        table = table[~unfit]
    return table.reset_index(drop=True), removed
