"""The rows of `videos`, read with few requests.

Each video has a file of its own in `videos`, which alone counts. `_state/videos.parquet` is a cache of them: the rows,
each with the version of its file (Store.stamps). A list of `videos` shows which files have another version now, and
only those are read. If the cache is lost, old or damaged, more files are read, and the rows are the same.

Only a process that writes the output refreshes the cache.
"""

import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.columns import mask, no_rows, repeated
from pipeline.storage import tables
from pipeline.storage.store import Stamp, Store, side_by_side

CACHE = "_state/videos.parquet"
VIDEOS = rows.DATASETS["videos"]
SCHEMA = pa.schema([("file", pa.string()), ("version", pa.string()), *VIDEOS])
"""The columns of the cache. A file without a row has an empty row."""
FRESH_ENOUGH = 16
"""The most files that are read again and again rather than writing the cache anew."""


@dataclass(frozen=True, slots=True)
class VideoRows:
    """The rows of `videos` with the files that they come from.

    table: SCHEMA, sorted by file.
    num_read: number of files that the cache did not have.
    """

    table: pa.Table
    num_read: int

    def by_id(self) -> dict[str, dict[str, Any]]:
        """Return the rows by video_id."""
        with_row = self.table.filter(self.table["video_id"].is_valid())
        return {row["video_id"]: row for row in with_row.select(VIDEOS.names).to_pylist()}


def read(store: Store, stamps: Mapping[str, Stamp] | None = None) -> VideoRows:
    """Return the rows of `videos`.

    stamps: of the files of `videos`, if they have just been listed.
    """
    stamps = store.stamps("videos") if stamps is None else stamps
    files = {name: stamp.version for name, stamp in stamps.items() if name.endswith(".parquet")}
    cached = _cached(store)
    cached = cached.filter(mask([files.get(name) == version for name, version in _versions(cached)]))
    current = set(cached["file"].to_pylist())
    changed = [name for name in files if name not in current]
    read_anew = side_by_side(store, lambda name: _read(store, name, files[name]), changed)
    table = pa.concat_tables([cached, *read_anew]).sort_by("file")
    return VideoRows(table, len(changed))


def refresh(store: Store, known: VideoRows | None = None) -> None:
    """Write the cache anew if it lacks too many files. Only the process that writes the output may call this.

    known: the rows, if they have just been read.
    """
    known = read(store) if known is None else known
    if known.num_read > FRESH_ENOUGH:
        _write(store, known.table)


def drop(store: Store, names: Collection[str]) -> None:
    """Remove the rows of some files from the cache. Only the process that writes the output may call this."""
    cached = _cached(store)
    left = cached.filter(mask([name not in names for name in cached["file"].to_pylist()]))
    if len(left) < len(cached):
        _write(store, left)


def _write(store: Store, table: pa.Table) -> None:
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    digest = hashlib.sha256(content.getbuffer()).digest()
    store.put(CACHE, content.getvalue() + digest)


def _cached(store: Store) -> pa.Table:
    """Return the content of the cache. It is empty if the cache is lost or damaged, or of another version."""
    try:
        content = store.read(CACHE)
    except FileNotFoundError:
        return no_rows(SCHEMA)
    body, digest = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        return no_rows(SCHEMA)
    table = pq.ParquetFile(io.BytesIO(body)).read(use_threads=False)
    return table if table.schema == SCHEMA else no_rows(SCHEMA)


def _versions(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["file"].to_pylist(), table["version"].to_pylist(), strict=True))


def _read(store: Store, name: str, version: str) -> pa.Table:
    """Return the row of one file, or an empty row if it has none. A file that was removed has nothing."""
    try:
        table = tables.read_small_file(store, name, VIDEOS)
    except FileNotFoundError:
        return no_rows(SCHEMA)
    if not table.num_rows:
        table = pa.table([pa.nulls(1, field.type) for field in VIDEOS], schema=VIDEOS)
    texts = [repeated(text, len(table)) for text in (name, version)]
    columns = [*texts, *(table[field.name] for field in VIDEOS)]
    return pa.table(columns, schema=SCHEMA)
