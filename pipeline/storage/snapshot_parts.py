"""The parts of a snapshot: large files that hold the rows of many videos, read and written one video at a time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.columns import no_rows
from pipeline.errors import DataError
from pipeline.storage import tables
from pipeline.storage.snapshots import Part
from pipeline.storage.store import Store

ROWS_PER_GROUP = 122_880
"""DuckDB's own size of row groups."""


class EarlierPartError(Exception):
    """The earlier generation cannot be read."""


@contextmanager
def reading_base() -> Iterator[None]:
    """Raise EarlierPartError if the block meets damage in the earlier generation."""
    try:
        with tables.damage_is_a_fault():
            yield
    except DataError as error:
        raise EarlierPartError from error


class PartReader:
    """Reads the rows of a part in order of video_id."""

    def __init__(self, groups: Iterator[pa.Table], dataset: str) -> None:
        self._groups, self._schema = groups, rows.DATASETS[dataset]
        self._rest = no_rows(self._schema)

    def take(self, video_id: str, num_rows: int) -> Iterator[pa.Table]:
        """Yield the next `num_rows` rows, which are those of a video. Raises EarlierPartError if they are not."""
        while num_rows:
            with reading_base():
                if not len(self._rest):
                    self._rest = tables.fit(next(self._groups, self._rest), self._schema)
                piece = self._rest.slice(0, num_rows)
                if piece["video_id"].unique().to_pylist() != [video_id]:
                    raise ValueError(f"other rows are in place of those of video {video_id}")
                self._rest = self._rest.slice(len(piece))
                num_rows -= len(piece)
            yield piece


class PartWriter:
    """Writes the new parts of a dataset, behind those that were kept.

    parts: the kept and the new ones, complete at the end of the `with` block.
    """

    def __init__(self, store: Store, folder: str, dataset: str, kept: Sequence[Part], part_bytes: int) -> None:
        self.parts = list(kept)
        self._store, self._folder, self._dataset, self._part_bytes = store, folder, dataset, part_bytes
        self._open = ExitStack()
        self._file: IO[bytes] | None = None
        self._writer: tables.RowWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is not None:
            self._open.__exit__(*failure)
            return
        if self._writer is None and not self.parts:
            self._begin()
        self._end()

    def add(self, num_rows: int, pieces: Iterable[pa.Table]) -> int | None:
        """Write the rows of a video. Return the number of their part, or None if there are no rows."""
        if not num_rows:
            return None
        writer = self._writer or self._begin()
        for piece in pieces:
            writer.add(piece)
        number = len(self.parts)
        if self._file is not None and self._file.tell() >= self._part_bytes:
            self._end()
        return number

    def _begin(self) -> tables.RowWriter:
        name = part_name(self._folder, self._dataset, len(self.parts))
        self._file = self._open.enter_context(self._store.writing(name))
        order = pq.SortingColumn(0)
        self._writer = self._open.enter_context(
            tables.RowWriter(self._file, rows.DATASETS[self._dataset], ROWS_PER_GROUP, sorting_columns=[order])
        )
        return self._writer

    def _end(self) -> None:
        if self._writer is None or self._file is None:
            return
        self._writer.end()
        name = part_name(self._folder, self._dataset, len(self.parts))
        self.parts.append(Part(name, self._writer.num_rows, self._file.tell()))
        self._open.close()
        self._file = self._writer = None


def part_name(folder: str, dataset: str, number: int) -> str:
    """Return the name of a part below the output."""
    return f"{folder}/{dataset}/part-{number:05d}.parquet"
