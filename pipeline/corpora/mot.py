"""Read boxes in the text form of MOTChallenge (Dendorfer et al., IJCV 2021): one person in one frame per line.

    frame (from 1), id, left, top, width, height, seventh, …

The seventh column is the confidence in results. In ground truth, 0 marks a row that does not count. Further columns
are ignored.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

COLUMNS = 7
MIN_COLUMNS = 6


@dataclass(frozen=True, slots=True, eq=False)
class MotRows:
    """R boxes.

    frames: (R,) int64, from 1.
    ids: (R,) int64.
    boxes: (R, 4) float32 xyxy px.
    counts: (R,) bool. False for rows that ground truth marks as ignored.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    counts: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "MotRows":
        return MotRows(self.frames[chosen], self.ids[chosen], self.boxes[chosen], self.counts[chosen])


def parse_mot(text: str) -> MotRows:
    """Return the rows of a MOT text. Raises ValueError that names the line."""
    lines = [_numbers(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    table = np.array(lines, np.float64).reshape(-1, COLUMNS)
    left_top, size = table[:, 2:4], table[:, 4:6]
    boxes = np.concatenate([left_top, left_top + size], axis=1).astype(np.float32)
    return MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes, table[:, 6] != 0)


def read_mot(path: Path) -> MotRows:
    """Return the rows of a MOT text file. Raises UserError."""
    try:
        return parse_mot(path.read_text())
    except (OSError, ValueError) as error:
        raise not_mot(str(path), error) from None


def not_mot(place: str, error: Exception) -> UserError:
    """Return the UserError for a text that cannot be read as MOT."""
    if isinstance(error, OSError):
        return UserError(f"{place} cannot be read: {error.strerror or error}; name a MOT text")
    return UserError(f"{place} is not in MOT form: {error}; rows are frame,id,left,top,width,height,counts,…")


def _numbers(number: int, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split(",")[:COLUMNS]]
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if len(row) < MIN_COLUMNS:
        raise ValueError(f"line {number} has {len(row)} of {MIN_COLUMNS} columns")
    if not all(map(math.isfinite, row)):
        raise ValueError(f"line {number} has a number that is not finite")
    if row[0] < 1 or row[0] % 1 or row[1] % 1:
        raise ValueError(f"line {number}: frames are whole numbers from 1, ids whole numbers")
    return row if len(row) == COLUMNS else [*row, 1.0]
