"""The tracking result: boxes in blocks, in order of frames, and a few numbers for each tracklet.

Blocks of a fixed number of rows go to the working area as soon as they are full. So neither the task that tracks nor
the task that reads holds all boxes of a long shot. The rows that fill no block stay in the result. Most videos are
short enough for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.ledger import Ledger

ROWS_PER_BLOCK = 8_192
BOX = np.dtype(
    [
        ("track", "<i8"),
        ("frame", "<i8"),  # index in the video
        ("box", "<f4", 4),  # xyxy px
        ("score", "<f4"),
        ("chunk", "<i4"),  # the box is detection `detection` of chunk `chunk`
        ("detection", "<i4"),
    ]
)
"""A row of a block. The rows of one frame may be in two blocks."""
BoxRows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of the frames [first_frame, last_frame], in order.

    first_frame: index in the video.
    last_frame: index in the video, inclusive.
    rows: BOX rows, or their name in the working area.
    """

    first_frame: int
    last_frame: int
    rows: BoxRows | str


@dataclass(frozen=True, slots=True)
class TrackingResult:
    """T tracklets of consecutive frames, in order of shots, then tracks. Tracks of other rows are no tracklets.

    blocks: in order of frames.
    tracks: (T,) int64, rising. A track that changes from one person to another is several tracklets.
    first_frames: (T,) int64, rising within a track.
    last_frames: (T,) int64, inclusive.
    shots: (T,) int64, index of the shot.
    bodies: (T, D) float32. Mean of unit embeddings, nan where there is none. D may be 0.
    steadiness: (T,) float64, of the body (cores.likeness), nan where it is not known.
    """

    blocks: tuple[Block, ...]
    tracks: NDArray[np.int64]
    first_frames: NDArray[np.int64]
    last_frames: NDArray[np.int64]
    shots: NDArray[np.int64]
    bodies: NDArray[np.float32]
    steadiness: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tracks)

    def tracklets(self, rows: BoxRows) -> NDArray[np.int64]:
        """Return the (K,) index of the tracklet of each row, -1 where it belongs to none."""
        if not len(self):
            return np.full(len(rows), -1)
        place = np.minimum(np.searchsorted(self.tracks, rows["track"]), len(self) - 1)
        for _ in range(1, int(np.unique(self.tracks, return_counts=True)[1].max())):
            later = np.minimum(place + 1, len(self) - 1)
            begun = (self.tracks[later] == rows["track"]) & (self.first_frames[later] <= rows["frame"])
            place = np.where(begun, later, place)
        return np.where(self.tracks[place] == rows["track"], place, -1)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the results of consecutive parts. The numbers of tracks rise from part to part."""
        width = max((part.bodies.shape[1] for part in parts), default=0)
        bodies = np.full((sum(map(len, parts)), width), np.nan, np.float32)
        first = 0
        for part in parts:
            bodies[first : first + len(part), : part.bodies.shape[1]] = part.bodies
            first += len(part)

        def column(name: str, kind: type = np.int64) -> NDArray[Any]:
            return np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])

        return cls(
            blocks=tuple(block for part in parts for block in part.blocks),
            tracks=column("tracks"),
            first_frames=column("first_frames"),
            last_frames=column("last_frames"),
            shots=column("shots"),
            bodies=bodies,
            steadiness=column("steadiness", np.float64),
        )


class BlockWriter:
    """Takes rows in order of frames. `put` stores a full block and returns its name."""

    def __init__(self, put: Callable[[int, bytes], str]) -> None:
        self._put = put
        self._blocks: list[Block] = []
        self._rows = np.empty(ROWS_PER_BLOCK, BOX)
        self._used = 0

    def add(self, **columns: Any) -> None:
        """Add some rows of one frame. A scalar is the value of all of them."""
        count = len(columns["track"])
        first = 0
        while first < count:
            taken = min(count - first, len(self._rows) - self._used)
            for name, values in columns.items():
                self._rows[name][self._used : self._used + taken] = (
                    values[first : first + taken] if isinstance(values, np.ndarray) else values
                )
            self._used += taken
            first += taken
            if self._used == len(self._rows):
                self._blocks.append(self._block(self._put(len(self._blocks), self._rows.tobytes())))
                self._used = 0

    def finish(self) -> tuple[Block, ...]:
        """Return all blocks. The last one holds its rows itself."""
        return (*self._blocks, *([self._block(self._rows[: self._used].copy())] if self._used else []))

    def _block(self, rows: BoxRows | str) -> Block:
        frames = self._rows["frame"]
        return Block(int(frames[0]), int(frames[self._used - 1]), rows)


class BlockReader:
    """Reads the boxes of any frames. A block stays in memory until a request no longer needs it."""

    def __init__(self, ledger: Ledger, blocks: Sequence[Block]) -> None:
        self._ledger = ledger
        self._blocks = blocks
        self._first = np.array([block.first_frame for block in blocks], np.int64)
        self._last = np.array([block.last_frame for block in blocks], np.int64)
        self._read: dict[int, BoxRows] = {}

    def between(self, first_frame: int, end_frame: int) -> BoxRows:
        """Return the rows of the frames [first_frame, end_frame), in order of frames."""
        start, end = np.searchsorted(self._last, first_frame), np.searchsorted(self._first, end_frame)
        self._read = {i: self._read[i] if i in self._read else self._rows(i) for i in range(start, end)}
        pieces = [np.zeros(0, BOX)]
        for rows in self._read.values():
            wanted = slice(*np.searchsorted(rows["frame"], (first_frame, end_frame)))
            pieces.append(rows[wanted])
        return np.concatenate(pieces)

    def _rows(self, index: int) -> BoxRows:
        rows = self._blocks[index].rows
        return np.frombuffer(self._ledger.tracked(rows), BOX) if isinstance(rows, str) else rows
