"""Groups of people in summaries: age groups, and the groups that are too small to be shown.

A summary leaves this machine more easily than a table of persons. A group of one or two people in it describes these
people, so that groups below a size are hidden. A hidden count must also not follow from the totals beside it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

MIN_GROUP = 5
"""The default size of the smallest group that summaries show."""
OLDEST = 150
ADIENCE = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
"""First and last years of Adience's age groups (Eidinger et al., 2014)."""


@dataclass(frozen=True, slots=True)
class AgeGroup:
    """An age group of a summary.

    name: as it is shown.
    low, high: years. An age belongs to the group if low <= age < high.
    """

    name: str
    low: float
    high: float


def _nearest_groups() -> tuple[AgeGroup, ...]:
    borders = [0.0, *((a[1] + b[0]) / 2 for a, b in pairwise(ADIENCE)), float(OLDEST)]
    names = [f"{first}–{last}" for first, last in ADIENCE[:-1]] + [f"{ADIENCE[-1][0]}+"]
    return tuple(AgeGroup(name, *ends) for name, ends in zip(names, pairwise(borders), strict=True))


NEAREST_ADIENCE = _nearest_groups()
"""Adience's groups without the gaps between them: an age between two groups belongs to the nearer one."""


def parse_age_groups(text: str) -> tuple[AgeGroup, ...]:
    """Return the groups that a user writes as `0-12,13-17,18-64,65+`, in whole years. Raises UserError.

    Both years belong to the group: 13-17 holds every age from 13 to below 18.
    """
    groups: list[AgeGroup] = []
    for part in text.split(","):
        years = re.fullmatch(r"\s*(\d{1,3})\s*(?:[-–]\s*(\d{1,3})|(\+))?\s*", part)
        low = int(years[1]) if years else 0
        high = OLDEST if years and years[3] else int(years[2] or years[1]) + 1 if years else 0
        if not low < high or (groups and low < groups[-1].high):
            raise UserError(f"age groups must be rising years such as 0-12,13-17,18-64,65+, got {text!r}")
        name = f"{low}+" if years and years[3] else f"{low}–{high - 1}" if high > low + 1 else f"{low}"
        groups.append(AgeGroup(name, low, high))
    return tuple(groups)


def read_age_groups(text: str) -> tuple[AgeGroup, ...]:
    """Return the groups of `adience`, or those that `parse_age_groups` reads. Raises UserError."""
    return NEAREST_ADIENCE if text == "adience" else parse_age_groups(text)


def group_indices(ages: NDArray[np.float64], groups: Sequence[AgeGroup]) -> NDArray[np.int64]:
    """Return the group of each of (N,) ages: (N,) int64. It is -1 for nan, and for an age that is in no group."""
    lows = np.array([group.low for group in groups])
    highs = np.array([group.high for group in groups])
    indices = np.searchsorted(lows, ages, side="right") - 1
    inside = (indices >= 0) & (ages < highs[indices])
    return np.where(inside, indices, -1)


def hidden_counts(counts: NDArray[np.int64], min_group: int) -> NDArray[np.bool_]:
    """Return which of (N,) counts of people a summary hides: (N,) bool. Their sum may be shown if it is large enough.

    Counts from 1 to min_group - 1 are hidden. As the sum minus the other counts would be the hidden people, the
    smallest other counts are hidden too, zeros last, until the hidden ones are at least two counts and min_group
    people.
    """
    return _completed(counts, (counts > 0) & (counts < min_group), min_group)


@dataclass(frozen=True, slots=True)
class HiddenCells:
    """The parts of a table of counts that a summary hides.

    cells: (R, C) bool.
    rows, columns: (R,) and (C,) bool, of the sums of rows and columns.
    total: whether the sum of all is hidden.
    """

    cells: NDArray[np.bool_]
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    total: bool


def hidden_cells(
    counts: NDArray[np.int64], min_group: int, hidden_columns: NDArray[np.bool_] | None = None
) -> HiddenCells:
    """Return which of (R, C) counts, and of the sums beside them, a summary hides, as `hidden_counts` does.

    A row or column whose sum is hidden is hidden as a whole. No hidden count follows from its row or column alone. In
    rare tables, one follows from all sums together.

    hidden_columns: (C,) bool. Columns whose sums are hidden because of a larger summary.
    """
    rows = hidden_counts(counts.sum(axis=1), min_group)
    columns = hidden_counts(counts.sum(axis=0), min_group)
    columns = columns if hidden_columns is None else columns | hidden_columns
    cells = ((counts > 0) & (counts < min_group)) | rows[:, None] | columns[None]
    before = -1
    while before != (before := int(cells.sum())):
        known = _known(counts, cells, rows, columns)
        for row in np.flatnonzero(~rows & (counts * cells).any(axis=1)):
            cells[row] = _completed(counts[row], cells[row], min_group, known[row])
        known = _known(counts, cells, rows, columns)
        for column in np.flatnonzero(~columns & (counts * cells).any(axis=0)):
            cells[:, column] = _completed(counts[:, column], cells[:, column], min_group, known[:, column])
    return HiddenCells(cells, rows, columns, bool(0 < counts.sum() < min_group))


def _known(
    counts: NDArray[np.int64], cells: NDArray[np.bool_], rows: NDArray[np.bool_], columns: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which hidden cells are known to be zero all the same, because the hidden cells of their line have the sum
    0: (R, C) bool. rows, columns: lines whose sums are hidden."""
    known = np.zeros_like(cells)
    before = -1
    while before != (before := int(known.sum())):
        unknown = np.where(cells & ~known, counts, 0)
        known |= cells & ((unknown.sum(axis=1) == 0) & ~rows)[:, None]
        known |= cells & ((unknown.sum(axis=0) == 0) & ~columns)[None]
    return known


def _completed(
    counts: NDArray[np.int64],
    hidden: NDArray[np.bool_],
    min_group: int,
    known: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return `hidden` with as many further counts as keep the hidden ones from following from the sum.

    known: the hidden counts that follow from other sums.
    """
    hidden = hidden.copy()
    known = np.zeros_like(hidden) if known is None else known
    if not counts[hidden].any():
        return hidden
    for place in np.lexsort((counts, counts == 0)):
        unknown = hidden & ~known
        if unknown.sum() >= 2 and counts[unknown].sum() >= min_group:
            break
        hidden[place] = True
    return hidden
