"""The measured errors of an estimator, from the tables of its card: weights/NAME.md."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "weights"
COLUMNS = {"MAE, years": "mae", "gender, %": "gender_accuracy", "coverage, %": "coverage"}
"""The columns of a card's tables that are read, and the fields of `MeasuredErrors` that take them."""
BY_AGE, BY_GENDER, ALL = "age", "gender", ""
"""The headings of the first columns of the tables that are read."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MeasuredErrors:
    """The errors of an estimator on a group of labelled faces.

    group: as the card names it: `20-29`, `70+`, `F`, `all`.
    num_faces: number of labelled faces.
    mae: mean absolute error of the age, years.
    gender_accuracy: percent.
    coverage: percent of ages inside their 80 % interval.
    """

    group: str
    num_faces: int
    mae: Measured
    gender_accuracy: Measured
    coverage: Measured

    @property
    def ages(self) -> tuple[float, float] | None:
        """The ages [low, high) of an age group, or None for any other group."""
        years = re.fullmatch(r"(\d+)(?:-(\d+)|(\+))", self.group)
        return None if years is None else (float(years[1]), float(int(years[2]) + 1 if years[2] else "inf"))


@dataclass(frozen=True, slots=True)
class Card:
    """The errors that a card states.

    name: of the estimator.
    overall: on all labelled faces.
    by_age, by_gender: by group.
    """

    name: str
    overall: MeasuredErrors
    by_age: Sequence[MeasuredErrors]
    by_gender: Sequence[MeasuredErrors]


def read_card(name: str, sha256: str | None, folder: Path = FOLDER) -> Card | None:
    """Return the errors of the estimator `name`, or None if no card states those of the file with this hash."""
    path = folder / f"{name}.md"
    if not re.fullmatch(r"[\w.-]+", name) or sha256 is None or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if sha256 not in text:
        return None
    measured = _tables(text)
    overall = [errors for errors in measured.get(ALL, []) if errors.group == "all"]
    if not overall:
        return None
    return Card(name, overall[0], measured.get(BY_AGE, []), measured.get(BY_GENDER, []))


def _tables(text: str) -> Mapping[str, list[MeasuredErrors]]:
    """Return the rows of the first table under each heading of a first column that has all of COLUMNS."""
    tables: dict[str, list[MeasuredErrors]] = {}
    header: list[str] = []
    rows: list[MeasuredErrors] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not header:
            header, rows = cells, []
            if "faces" in cells and COLUMNS.keys() <= set(cells):
                rows = tables.setdefault(cells[0], rows)
                header = header if not rows else ["of a later table"]
        elif {"faces", *COLUMNS} <= set(header) and set(line) - set("|-: "):
            row = dict(zip(header, cells, strict=True))
            figures = {field: _measured(row[column]) for column, field in COLUMNS.items()}
            rows.append(MeasuredErrors(cells[0], int(row["faces"].replace(",", "")), **figures))
    return tables


def _measured(cell: str) -> Measured:
    """Return `4.82 (4.60 … 5.04)` as numbers."""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)]
    value, low, high = numbers if len(numbers) == 3 else (numbers[0],) * 3
    return Measured(value, low, high)
