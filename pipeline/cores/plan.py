"""Divide the time of a video into cells, slots, chunks and spans, with exact fractions and integers.

Laws:
- A frame belongs to the cell floor(time / cell length), computed in exact fractions, and to the one chunk that holds
  that cell.
- A chunk is a run of whole cells, so a result that depends only on the frames of a cell does not depend on the
  length of chunks.
- The last chunk of a video is open, [first_cell, -1), because the true end of a video is known only after decoding.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Self

from annotated_types import Gt

from pipeline.cores.ranges import check

OPEN_END = -1
NS = 1_000_000_000
STAMP_ERROR_S = Fraction(1, 2000)
"""Matroska and FLV round time stamps to whole milliseconds, so a stamp may be half a millisecond too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkParams:
    """The lengths of cells and chunks.

    cell_seconds: the length of a cell in seconds.
    max_seconds: the approximate length limit of a chunk in seconds.
    """

    cell_seconds: Annotated[float, Gt(0)]
    max_seconds: Annotated[float, Gt(0)]

    def __post_init__(self) -> None:
        check(self)
        if self.max_seconds < self.cell_seconds:
            raise ValueError(
                f"max_seconds must be at least cell_seconds, {self.cell_seconds:g}, got {self.max_seconds:g}; "
                "raise it, or lower cell_seconds"
            )


@dataclass(frozen=True, slots=True)
class PlannedSpan:
    """Cells that are decoded in one pass (rows.SPAN).

    first_cell: the first cell.
    end_cell: the cell after the last one. -1 for the end of the video.
    borders: first cells of the chunks inside, ascending, first_cell included.
    durable: the borders whose chunks need no work.
    """

    first_cell: int
    end_cell: int
    borders: tuple[int, ...]
    durable: tuple[int, ...]

    def chunks(self) -> list[tuple[int, int]]:
        """Return the chunks inside as (first_cell, end_cell), in order."""
        return list(pairwise((*self.borders, self.end_cell)))


def exact(seconds: float) -> Fraction:
    """Return a knob as the decimal number that a person typed: 0.1 is one tenth."""
    return Fraction(str(seconds))


def cell_of(time_s: Fraction, cell_s: Fraction) -> int:
    """Return the cell of a frame shown at `time_s`, in exact seconds from the first displayed frame."""
    return time_s // cell_s


def slot_of(time_s: Fraction, cell_s: Fraction, fps: Fraction) -> int:
    """Return the slot of its cell's grid that a frame falls into. The first frame of each slot is analysed.

    The grid has `fps` slots per second and starts anew in every cell. fps must be positive. 0, which stands for
    every frame, has no grid.
    """
    slots = -(-cell_s * fps // 1)
    return min(int((time_s % cell_s + STAMP_ERROR_S) * fps), int(slots) - 1)


@dataclass(frozen=True, slots=True)
class Grid:
    """`cell_of` and `slot_of` for times in whole ticks, such as the time stamps of a video. They are asked for every
    frame, and integers take a tenth of the time of fractions.

    fps: slots per second. 0 stands for every frame, and then all slots are -1.
    cells: ticks times the first over the second, rounded down, is the cell. The rest is the place in the cell.
    slots: the place times the first, plus the second, over the third, rounded down, is the slot, at most the fourth.
    ns: ticks times the first over the second are nanoseconds.
    """

    fps: Fraction
    cells: tuple[int, int]
    slots: tuple[int, int, int, int]
    ns: tuple[int, int]

    @classmethod
    def of(cls, tick_s: Fraction, cell_s: Fraction, fps: Fraction) -> Self:
        """Return the grid for ticks of `tick_s` seconds."""
        cells, ns = tick_s / cell_s, tick_s * NS
        slots, error = cell_s * fps / cells.denominator, STAMP_ERROR_S * fps
        whole = slots.denominator * error.denominator
        return cls(
            fps,
            (cells.numerator, cells.denominator),
            (int(slots * whole), int(error * whole), whole, int(-(-cell_s * fps // 1)) - 1),
            (ns.numerator, ns.denominator),
        )

    def cell_of(self, ticks: int) -> int:
        """Return the cell of a frame."""
        return ticks * self.cells[0] // self.cells[1]

    def slot_of(self, ticks: int) -> int:
        """Return the slot of a frame in its cell."""
        factor, error, whole, last = self.slots
        return min((ticks * self.cells[0] % self.cells[1] * factor + error) // whole, last)

    def ns_of(self, ticks: int) -> int:
        """Return ns from the first displayed frame, rounded down, so that they lie in the frame's cell."""
        return ticks * self.ns[0] // self.ns[1]


def analysed(times_s: Sequence[Fraction], cell_s: Fraction, fps: Fraction) -> list[int]:
    """Return the indices of a video's frames that are analysed: the first of every slot, or all if `fps` is 0."""
    if not fps:
        return list(range(len(times_s)))
    slots = [(cell_of(time_s, cell_s), slot_of(time_s, cell_s, fps)) for time_s in times_s]
    return [index for index, slot in enumerate(slots) if not index or slot != slots[index - 1]]


def disjoint(chunks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return a set of chunks, (first_cell, end_cell), that do not overlap, from the first cell on, ascending.

    The durable chunks may have several lengths. Of chunks that begin together, the longest is taken.

    """
    chosen: list[tuple[int, int]] = []
    for first, end in sorted(chunks, key=lambda chunk: (chunk[0], -_ceiling(chunk[1]))):
        if not chosen or first >= _ceiling(chosen[-1][1]):
            chosen.append((first, end))
    return chosen


def beside(chosen: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of `others` that overlap none of `chosen`. Both are disjoint and ascending."""
    starts = [first for first, _ in chosen]
    free = []
    for first, end in others:
        place = bisect_right(starts, first)
        is_free = not place or _ceiling(chosen[place - 1][1]) <= first
        if is_free and (place == len(starts) or _ceiling(end) <= starts[place]):
            free.append((first, end))
    return free


def plan_spans(
    *,
    duration_s: float,
    keyframe_ns: Sequence[int],
    enterable: bool,
    params: ChunkParams,
    durable: Sequence[tuple[int, int]] = (),
) -> list[PlannedSpan]:
    """Return the spans of a video that still need work, in order of time. Empty if the video is complete.

    duration_s: seconds as the header states them. May be wrong.
    keyframe_ns: ns from the first displayed frame, ascending and approximate. Empty if unknown.
    enterable: whether decoding can start at a keyframe in the middle.
    params: the lengths of cells and chunks.
    durable: existing chunks as (first_cell, end_cell), of any earlier length.

    A border is the first cell border at or after a keyframe, so that little is decoded twice. A chunk is as long as
    max_seconds allows, but at least one group of pictures. Without keyframes, borders are at fixed distances. A
    video that cannot be entered in the middle is one span from its start, with many borders.
    """
    cell_s = exact(params.cell_seconds)
    max_cells = max(1, int(exact(params.max_seconds) // cell_s))
    num_cells = max(1, -int(-exact(duration_s) // cell_s))
    entries = sorted(_cells_from(keyframe_ns, cell_s)) if enterable else []
    there = disjoint(durable)

    starts, ends = [0, *(end for _, end in there)], [*(first for first, _ in there), OPEN_END]
    missing: list[tuple[int, int]] = []
    for start, end in zip(starts, ends, strict=True):
        if start != end:  # equal also if the last durable chunk is open, because nothing follows it
            missing += _cut(start, end, num_cells, entries, max_cells)
    if enterable:
        return [PlannedSpan(first, end, (first,), ()) for first, end in missing]
    if not missing:
        return []
    last_end = missing[-1][1]
    kept = [chunk for chunk in there if _ceiling(chunk[0]) < _ceiling(last_end)]
    borders = tuple(sorted(first for first, _ in [*missing, *kept]))
    return [PlannedSpan(0, last_end, borders, tuple(first for first, _ in kept))]


def _cells_from(keyframe_ns: Sequence[int], cell_s: Fraction) -> set[int]:
    """Return the first cells that begin at or after a keyframe. An archive has millions, so it divides integers."""
    parts, whole = cell_s.denominator, cell_s.numerator * NS
    return {-(-ns * parts // whole) for ns in keyframe_ns}


def _cut(start: int, end: int, num_cells: int, entries: list[int], max_cells: int) -> list[tuple[int, int]]:
    """Cut [start, end) at entries (at fixed distances if there are none) into pieces as long as max_cells allows."""
    pieces: list[tuple[int, int]] = []
    limit = num_cells if end == OPEN_END else end
    while limit - start > max_cells:
        if entries:
            beyond = bisect_right(entries, start + max_cells)
            within = entries[beyond - 1] if beyond and entries[beyond - 1] > start else None
            border = within if within is not None else (entries[beyond] if beyond < len(entries) else limit)
        else:
            border = start + max_cells
        if border >= limit:
            break
        pieces.append((start, border))
        start = border
    return [*pieces, (start, end)]


def _ceiling(end_cell: int) -> float:
    return float("inf") if end_cell == OPEN_END else end_cell
