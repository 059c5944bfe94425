"""Make snapshots: the tables of an output in few large files, behind one pointer.

Contract:
- A generation is a folder `compact/GENERATION` with a folder for each dataset. `compact/current.json` names the valid
  generation. It is replaced in one step after all files are written and counted.
- A generation never changes, and has each video once. It holds every video that was done when it was made. Of a video
  that was being replaced then, it holds the earlier rows.
- It stays for KEPT after another one took its place, for readers that still read it.
- A generation is made from the one before: full parts without a changed video are copied by the store. The rows of
  other unchanged videos come from the earlier parts. Only new and changed videos are read one by one.
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.columns import no_rows
from pipeline.errors import DataError, MachineError, PassingError, UserError
from pipeline.storage import snapshot_parts, tables
from pipeline.storage.snapshot_parts import EarlierPartError, PartReader, PartWriter, part_name, reading_base
from pipeline.storage.snapshots import (
    CONTENT,
    CONTENTS,
    FOLDER,
    SNAPSHOT,
    OutputListing,
    Part,
    Snapshot,
    VideoContent,
    read_contents,
)
from pipeline.storage.store import Store

KEPT = timedelta(days=2)
PART_BYTES = 256 << 20
"""A part is closed after the video with which it reaches this size, and then is full."""
AT_ONCE_BYTES = 32 << 20
"""The size of the files that are read at a time. A larger file is read by row group."""
READERS = 32
MOST_ROUNDS = 5
NAME = re.compile(r"(\d{8}T\d{6})-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Compaction:
    """The work of one call of `compact_output`.

    snapshot: the valid snapshot afterwards.
    is_new: False if nothing had changed since the earlier one.
    num_read: number of videos that were read one by one.
    num_copied: number of parts that were copied from the earlier generation.
    left_out: reasons by video_id, of videos whose tables are damaged.
    """

    snapshot: Snapshot
    is_new: bool
    num_read: int = 0
    num_copied: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


def compact_output(store: Store, part_bytes: int = PART_BYTES, now: datetime | None = None) -> Compaction:
    """Make a snapshot of an output, and remove generations that nobody reads any more.

    One call at a time may work on an output, which the lease sees to. If another run works on it all the same, nothing
    is mixed. Raises PassingError if that run replaces videos again and again.
    """
    now = now or datetime.now(UTC)
    valid = base = Snapshot.read(store)
    failed: list[str] = []
    for _ in range(MOST_ROUNDS):
        listing = OutputListing.of(store)
        if valid is not None and base is valid and valid.inputs == listing.inputs and _is_whole(store, valid):
            _drop_expired(store, valid, now)
            return Compaction(valid, is_new=False)
        build = _Build(store, listing, part_bytes, now)
        try:
            snapshot = build.run(base)
        except EarlierPartError:
            base = None
        else:
            if not build.changed_meanwhile(OutputListing.of(store)):
                break
        failed.append(build.folder)  # it may have rows of two versions of a video
    else:
        raise PassingError(f"{store.uri}: another run replaces videos while they are read")
    replaced = {valid.generation: now, **valid.replaced} if valid else {}
    snapshot = replace(snapshot, replaced={name: at for name, at in replaced.items() if now - at < KEPT})
    snapshot.write(store)
    for folder in failed:
        store.delete_tree(folder)
    _drop_expired(store, snapshot, now)
    return Compaction(snapshot, True, len(build.read), build.num_copied, build.left_out)


def _is_whole(store: Store, snapshot: Snapshot) -> bool:
    """Return whether a snapshot has all its files, and the columns of this version."""
    names = {part.name for parts in snapshot.parts.values() for part in parts}
    return snapshot.schemas == _schemas() and names <= set(store.names(snapshot.folder))


def _drop_expired(store: Store, snapshot: Snapshot, now: datetime) -> None:
    """Remove the generations that were replaced, or begun by a call that was killed, longer than KEPT ago."""
    for generation in {name.split("/")[1] for name in store.names(FOLDER)} - {snapshot.generation}:
        begun = NAME.fullmatch(generation)
        if begun is None:
            continue
        begun_at = datetime.strptime(f"{begun[1]}+0000", "%Y%m%dT%H%M%S%z")
        if now - snapshot.replaced.get(generation, begun_at) >= KEPT:
            store.delete_tree(f"{FOLDER}/{generation}")


def _schemas() -> dict[str, str]:
    return {name: hashlib.sha256(rows.DATASETS[name].serialize()).hexdigest()[:16] for name in SNAPSHOT}


class _Build:
    """The making of one generation.

    read: versions by video_id, of the videos whose rows were read one by one.
    num_copied: number of parts that were copied from the base.
    left_out: reasons by video_id, of damaged videos.
    folder: of the generation, below the output.
    """

    def __init__(self, store: Store, listing: OutputListing, part_bytes: int, now: datetime) -> None:
        self.read: dict[str, str] = {}
        self.num_copied = 0
        self.left_out: dict[str, str] = {}
        self.folder = f"{FOLDER}/{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._store, self._listing, self._part_bytes, self._now = store, listing, part_bytes, now
        self._base: Snapshot | None = None
        self._before: dict[str, VideoContent] = {}
        self._contents: dict[str, VideoContent] = {}
        self._parts: dict[str, list[Part]] = {}
        self._sizes: dict[str, int] = {}

    def changed_meanwhile(self, after: OutputListing) -> bool:
        """Return whether a video was replaced while this generation was made."""
        versions = after.versions()
        return any(versions.get(video_id) != version for video_id, version in self.read.items())

    def run(self, base: Snapshot | None) -> Snapshot:
        """Write all files of the generation. base: an earlier generation. Raises EarlierPartError for
        a damaged one."""
        if base is not None:
            with reading_base():
                self._base, self._before = base, read_contents(self._store, base)
        with ThreadPoolExecutor(READERS) as pool:
            videos = self._choose_videos(pool)
            self._write_video_tables(pool)
            held = [video_id for video_id, content in self._contents.items() if content.held]
            given_up = [row["video_id"] for row in videos.to_pylist() if row["status"] != "done"]
            self._write_small("videos", _only(videos, {*held, *given_up}))
            for name in ("sources", "sequences", "runs"):
                names = [file for file in self._listing.files[name] if file.endswith(".parquet")]
                table = pa.concat_tables([no_rows(rows.DATASETS[name]), *pool.map(self._read_file(name), names)])
                if name == "sequences":
                    table = _only(table, set(held))
                self._write_small(name, table)
        self._write_contents()
        self._check_counts()
        return Snapshot(
            self.folder.rpartition("/")[2],
            self._now,
            len(held),
            "" if self.left_out else self._listing.inputs,  # they are tried again
            {name: self._parts[name] for name in SNAPSHOT},
            _schemas(),
            {},
        )

    def _read_file(self, dataset: str) -> Any:
        return lambda name: tables.read_file(self._store, name, rows.DATASETS[dataset])

    def _choose_videos(self, pool: ThreadPoolExecutor) -> pa.Table:
        """Return the rows of `videos` for this generation, sorted by video_id, and note what becomes of each video."""
        versions = self._listing.versions()
        changed = [
            video_id
            for video_id, version in versions.items()
            if video_id not in self._before or self._before[video_id].version != version
        ]
        fresh = dict(zip(changed, pool.map(self._read_row, changed), strict=True))
        carried: set[str] = set()
        for video_id, version in versions.items():
            row, before = fresh.get(video_id), self._before.get(video_id)
            is_withdrawn = row is not None and not len(row)
            if before is not None and (row is None or (is_withdrawn and before.held)):
                carried.add(video_id)
                self._contents[video_id] = VideoContent(before.version, before.held, {}, dict(before.rows))
            elif row is not None and video_id not in self.left_out:
                is_done = not is_withdrawn and row["status"][0].as_py() == "done"
                self._contents[video_id] = VideoContent(version, is_done)
                if is_done:
                    self.read[video_id] = version
        parts = [no_rows(rows.DATASETS["videos"])]
        if self._base is not None:
            with reading_base():
                earlier = [self._read_file("videos")(part.name) for part in self._base.parts["videos"]]
            parts += [_only(table, carried) for table in earlier]
        parts += [row for video_id, row in fresh.items() if video_id not in carried]
        return pa.concat_tables(parts).sort_by("video_id")

    def _read_row(self, video_id: str) -> pa.Table:
        """Return the row of a video, or none if it is being replaced or was removed."""
        name, schema = f"videos/{video_id}.parquet", rows.DATASETS["videos"]
        try:
            with tables.damage_is_a_fault():
                return self._read_file("videos")(name) if self._store.exists(name) else no_rows(schema)
        except DataError as error:
            self.left_out[video_id] = str(error)
            return no_rows(schema)

    def _write_video_tables(self, pool: ThreadPoolExecutor) -> None:
        with ExitStack() as stack:
            cursors: dict[str, dict[int | None, PartReader]] = {}
            writers: dict[str, PartWriter] = {}
            for name in rows.VIDEO_TABLES:
                kept, cursors[name] = self._keep_parts(name, stack)
                writers[name] = stack.enter_context(PartWriter(self._store, self.folder, name, kept, self._part_bytes))
            stored = self._read_videos(pool)
            for video_id in sorted({*self._before, *self._contents}):
                if video_id in self.read:
                    self._add_stored(video_id, next(stored), writers)
                if (before := self._before.get(video_id)) is not None and before.held:
                    self._add_earlier(video_id, before, cursors, writers)
        self._parts |= {name: writer.parts for name, writer in writers.items()}

    def _add_stored(self, video_id: str, stored: "_Stored | DataError", writers: Mapping[str, "PartWriter"]) -> None:
        """Add the rows of a video that was read, or leave it out if its tables are damaged."""
        if isinstance(stored, DataError):
            self.left_out[video_id] = str(stored)
            del self._contents[video_id]
            return
        content = self._contents[video_id]
        for name, (num_rows, pieces) in stored.items():
            content.rows[name] = num_rows
            content.parts[name] = writers[name].add(num_rows, pieces)

    def _add_earlier(
        self,
        video_id: str,
        before: VideoContent,
        cursors: Mapping[str, Mapping[int | None, "PartReader"]],
        writers: Mapping[str, "PartWriter"],
    ) -> None:
        """Add the rows that the base has of a video, or pass over them if they have changed."""
        content = self._contents.get(video_id)
        stays = content is not None and content.held and video_id not in self.read
        for name in rows.VIDEO_TABLES:
            if (cursor := cursors[name].get(before.parts[name])) is None:
                continue  # there are none, or their part was copied
            pieces = cursor.take(video_id, before.rows[name])
            if stays and content is not None:
                content.parts[name] = writers[name].add(before.rows[name], pieces)
            else:
                for _ in pieces:
                    pass

    def _keep_parts(self, dataset: str, stack: ExitStack) -> tuple[list[Part], dict[int | None, "PartReader"]]:
        """Copy the parts of the base that stay. Return them, and a cursor over each of the others."""
        parts = list(self._base.parts.get(dataset, ())) if self._base else []
        dissolved = {
            number
            for video_id, before in self._before.items()
            if (number := before.parts[dataset]) is not None
            and (video_id in self.read or not (content := self._contents.get(video_id)) or not content.held)
        }
        if self._base and self._base.schemas.get(dataset) != _schemas()[dataset]:
            dissolved = set(range(len(parts)))
        if dissolved or self.read:
            dissolved |= {number for number, part in enumerate(parts) if part.bytes < self._part_bytes}
        kept: list[Part] = []
        renumbered: dict[int | None, int] = {}
        for number, part in enumerate(parts):
            if number not in dissolved:
                renumbered[number] = len(kept)
                kept.append(replace(part, name=part_name(self.folder, dataset, len(kept))))
                with reading_base():
                    self._store.copy(part.name, kept[-1].name)
        self.num_copied += len(kept)
        for video_id, content in self._contents.items():
            if content.held and video_id not in self.read:
                content.parts[dataset] = renumbered.get(self._before[video_id].parts[dataset])
        cursors: dict[int | None, PartReader] = {}
        for number in sorted(dissolved):
            with reading_base():
                groups = stack.enter_context(tables.row_groups(self._store, parts[number].name))
            cursors[number] = PartReader(groups, dataset)
        return kept, cursors

    def _read_videos(self, pool: ThreadPoolExecutor) -> Iterator["_Stored | DataError"]:
        """Yield the tables of each video of `read`, in order of video_id. Small files are read many at a time."""
        if not self.read:
            return
        self._sizes = sizes = {
            file: stamp.size_bytes for name in rows.VIDEO_TABLES for file, stamp in self._store.stamps(name).items()
        }
        batch: list[str] = []
        num_bytes = 0
        for video_id in sorted(self.read):
            size = sum(sizes.get(f"{name}/{video_id}.parquet", 0) for name in rows.VIDEO_TABLES)
            if batch and num_bytes + size > AT_ONCE_BYTES:
                yield from pool.map(self._read_video, batch)
                batch, num_bytes = [], 0
            batch.append(video_id)
            num_bytes += size
        yield from pool.map(self._read_video, batch)

    def _read_video(self, video_id: str) -> "_Stored | DataError":
        """Return the rows of a video in each dataset."""
        stored: _Stored = {}
        try:
            for name in rows.VIDEO_TABLES:
                file = f"{name}/{video_id}.parquet"
                has_file = name not in rows.OPTIONAL_TABLES or file in self._sizes
                stored[name] = self._read_table(file, rows.DATASETS[name]) if has_file else (0, [])
        except DataError as error:
            return error
        return stored

    def _read_table(self, name: str, schema: pa.Schema) -> tuple[int, Iterable[pa.Table]]:
        with tables.damage_is_a_fault():
            content = self._store.read(name)
            reader = pq.ParquetFile(pa.BufferReader(content))
            groups = (
                tables.fit(reader.read_row_group(number, use_threads=False), schema)
                for number in range(reader.num_row_groups)
            )
            if len(content) <= AT_ONCE_BYTES:
                return reader.metadata.num_rows, list(groups)

        def read_slowly() -> Iterator[pa.Table]:
            try:
                with tables.damage_is_a_fault():
                    yield from groups
            except DataError as error:
                raise UserError(f"{self._store.full(name)}: {error}; run `process` again on this video") from error

        return reader.metadata.num_rows, read_slowly()

    def _write_small(self, dataset: str, table: pa.Table) -> None:
        name, schema = part_name(self.folder, dataset, 0), rows.DATASETS[dataset]
        with self._store.writing(name) as file:
            with tables.RowWriter(file, schema, snapshot_parts.ROWS_PER_GROUP) as writer:
                writer.add(table)
            self._parts[dataset] = [Part(name, writer.num_rows, file.tell())]

    def _write_contents(self) -> None:
        contents = [
            {"video_id": video_id, "version": content.version, "held": content.held}
            | {f"{name}_part": content.parts.get(name) for name in rows.VIDEO_TABLES}
            | {f"{name}_rows": content.rows.get(name) for name in rows.VIDEO_TABLES}
            for video_id, content in sorted(self._contents.items())
        ]
        tables.write_rows(self._store, f"{self.folder}/{CONTENTS}", CONTENT, contents)

    def _check_counts(self) -> None:
        """Raise MachineError if a dataset does not have the rows that its videos have."""
        held = [content for content in self._contents.values() if content.held]
        for name in rows.VIDEO_TABLES:
            wanted = sum(content.rows[name] for content in held)
            written = 0
            for part in self._parts[name]:
                with self._store.open(part.name) as file:
                    written += pq.ParquetFile(file).metadata.num_rows
            if written != wanted:
                raise MachineError(
                    f"{self._store.full(f'{self.folder}/{name}')} has {written:,} rows instead of {wanted:,}; the "
                    f"earlier snapshot stays valid; check the disk or the connection, and run the same command again"
                )


_Stored = dict[str, tuple[int, Iterable[pa.Table]]]
"""By dataset, the number of a video's rows, and the rows."""


def _only(table: pa.Table, video_ids: Collection[str]) -> pa.Table:
    """Return the rows that belong to some videos."""
    return table.filter(pa.array([video_id in video_ids for video_id in table["video_id"].to_pylist()], pa.bool_()))
