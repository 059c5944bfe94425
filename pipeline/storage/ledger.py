"""The working area of videos in progress: two durable objects per chunk, and marks of the attempts to make them.

    _work/VIDEO/observed-KEY/FIRST-END.parquet    frame times, cut features, boxes, body embeddings
    _work/VIDEO/enriched-KEY/FIRST-END.parquet    faces and their estimates
    _work/VIDEO/attempts/RUN.POOL.FIRST.N         a worker began attempt N, on the node that the file names, and maybe
                                                  beside other chunks
    _work/loading/attempts/RUN.POOL.WORKER.N      a worker began to load its models for the Nth time
    _work/sequences/VIDEO.parquet                 rows.SUMMARY of a published video, for the files that follow it
    _work/VIDEO/tracked/PART.N.rows               boxes of tracks, while the video is reduced

FIRST and END are cells. END is `end` for the chunk that reaches the end of the video. KEY identifies the knobs and
weights that determine the object. A chunk is durable when both of its objects exist.
"""

import io
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.storage.store import Stamp, Store

WORK = "_work"
SUMMARIES = f"{WORK}/sequences"
LOADING = "loading"
TRACKED = "tracked"
BESIDE_OTHERS = "beside-others"
ChunkSpan = tuple[int, int]
"""[first cell, end cell). The end is -1 if the chunk reaches the end of the video."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Short hashes of the settings and weights that determine the durable objects.

    observed: the key of observed objects.
    enriched: the key of enriched objects.
    """

    observed: str
    enriched: str

    @property
    def folders(self) -> tuple[str, str]:
        """The names of the folders of observed and enriched objects."""
        return f"observed-{self.observed}", f"enriched-{self.enriched}"


@dataclass(frozen=True, slots=True)
class Objects:
    """All durable objects of an output.

    chunks: video_id -> folder name -> the chunks in that folder.
    """

    chunks: Mapping[str, Mapping[str, set[ChunkSpan]]]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Objects":
        """Return the durable objects among the files of the working area."""
        chunks: dict[str, dict[str, set[ChunkSpan]]] = defaultdict(lambda: defaultdict(set))
        for name in names:
            parts = name.split("/")
            if len(parts) == 4 and parts[3].endswith(".parquet"):
                chunks[parts[1]][parts[2]].add(_span(parts[3]))
        return cls({video_id: dict(by_folder) for video_id, by_folder in chunks.items()})

    def durable(self, video_id: str, keys: Keys) -> list[ChunkSpan]:
        """Return the chunks of a video whose two objects both exist under `keys`, in order."""
        by_folder = self.chunks.get(video_id, {})
        observed, enriched = (by_folder.get(name, set()) for name in keys.folders)
        return sorted(observed & enriched)


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of an attempt.

    node: id of the machine of the worker. Empty where that is not known.
    is_beside_others: whether the worker could work on other chunks at the same time.
    """

    node: str = ""
    is_beside_others: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """The durable objects and attempts of an output, under one pair of keys.

    store: the output.
    keys: the keys of the objects that are read and written.
    """

    store: Store
    keys: Keys

    def commit(self, video_id: str, span: ChunkSpan, observed: pa.Table, enriched: pa.Table) -> None:
        """Make one chunk durable: one row of rows.OBSERVED and one of rows.ENRICHED. A repeated call changes
        nothing."""
        self.commit_enriched(video_id, span, enriched)
        self.store.put(self._name(video_id, "observed", span), _parquet(rows.conform(observed, rows.OBSERVED)))

    def commit_enriched(self, video_id: str, span: ChunkSpan, enriched: pa.Table) -> None:
        """Write one row of rows.ENRICHED for a chunk whose observed object is already durable."""
        self.store.put(self._name(video_id, "enriched", span), _parquet(rows.conform(enriched, rows.ENRICHED)))

    def durable(self) -> dict[str, list[ChunkSpan]]:
        """Return the durable chunks of every video under these keys, in order."""
        objects = Objects.of(self.store.names(WORK))
        both = {video_id: objects.durable(video_id, self.keys) for video_id in objects.chunks}
        return {video_id: chunks for video_id, chunks in both.items() if chunks}

    def durable_of(self, video_id: str) -> list[ChunkSpan]:
        """Return the durable chunks of one video under these keys, in order."""
        return Objects.of(self.store.names(f"{WORK}/{video_id}")).durable(video_id, self.keys)

    def observed(self, video_id: str, span: ChunkSpan, columns: Sequence[str]) -> pa.Table:
        """Return one row with these columns. `detections.list.element.frame` selects one field of a list of structs."""
        return self._read(video_id, "observed", span, columns)

    def enriched(self, video_id: str, span: ChunkSpan, columns: Sequence[str]) -> pa.Table:
        """Return one row of rows.ENRICHED with these columns, as `observed` does."""
        return self._read(video_id, "enriched", span, columns)

    def put_tracked(self, video_id: str, part: int, number: int, rows: bytes) -> str:
        """Store a block of the tracking result until `clear_tracked`, and return its name. A repeated call
        overwrites it."""
        name = f"{WORK}/{video_id}/{TRACKED}/{part:05d}.{number:05d}.rows"
        self.store.put(name, rows)
        return name

    def tracked(self, name: str) -> bytes:
        """Return a block that `put_tracked` stored. Raises FileNotFoundError."""
        return self.store.read(name)

    def clear_tracked(self, video_id: str) -> None:
        """Remove the blocks of a video's tracking result."""
        self.store.delete_tree(f"{WORK}/{video_id}/{TRACKED}")

    def clear(self, video_id: str) -> None:
        """Remove all work on a video."""
        self.store.delete_tree(f"{WORK}/{video_id}")

    def begin_attempt(self, video_id: str, run_id: str, pool: str, first_cell: int | str, node: str = "") -> int:
        """Mark an attempt before the work starts, because a dying worker writes no mark. Return the number of
        attempts so far.

        first_cell: names the work within `video_id`. node: id of the machine of the worker.
        """
        mine, content = f"{_marks(video_id)}/{run_id}.{pool}.{first_cell}.", _mark(node)
        if self._marks_first(f"{mine}1", content):
            return 1
        number = 1 + sum(name.startswith(mine) for name in self.store.names(_marks(video_id)))
        self.store.put(f"{mine}{number}", content)
        return number

    def begin_first_attempt(self, video_id: str, run_id: str, pool: str, first_cell: int, node: str = "") -> bool:
        """Mark an attempt beside other chunks, if it is the first one. Return whether it is."""
        mine, content = f"{_marks(video_id)}/{run_id}.{pool}.{first_cell}.", _mark(node, BESIDE_OTHERS)
        if self._marks_first(f"{mine}1", content):
            return True
        if any(name.startswith(mine) for name in self.store.names(_marks(video_id))):
            return False
        self.store.put(f"{mine}1", content)
        return True

    def marks_of_attempts(
        self, video_id: str, run_id: str, pool: str, first_cell: int | str, number: int
    ) -> list[Mark]:
        """Return the mark of each attempt from 1 to `number`."""
        marks = []
        for n in range(1, number + 1):
            with suppress(FileNotFoundError):
                content = self.store.read(f"{_marks(video_id)}/{run_id}.{pool}.{first_cell}.{n}")
                _, node, *rest = content.decode().split(" ")
                marks.append(Mark(node, BESIDE_OTHERS in rest))
                continue
            marks.append(Mark())
        return marks

    def _marks_first(self, name: str, mark: bytes) -> bool:
        """Return whether this is the first attempt, and mark it. This spares the list of the marks.

        It needs an object store that refuses to replace an object, as the lease has found out.
        """
        guard = self.store.guard
        if self.store.is_local or guard is None or guard.strength not in ("full", "create-only"):
            return False
        with suppress(FileNotFoundError):
            # The mark is also ours if the store wrote it and its answer got lost.
            return self.store.create(name, mark) is not None or self.store.read(name) == mark
        return False

    def take_back_attempt(self, video_id: str, run_id: str, pool: str) -> None:
        """Remove the mark of the last attempt of a pool, if its worker ended for a reason other than the work."""
        prefix = f"{_marks(video_id)}/{run_id}.{pool}."
        marks = [name.rsplit(".", 1) for name in self.store.names(_marks(video_id)) if prefix in name]
        if marks:
            self.store.delete(".".join(max(marks, key=lambda mark: int(mark[1]))))

    def end_attempts(self, video_id: str, run_id: str, pool: str, first_cell: int | str, number: int) -> None:
        """Remove the marks of attempts 1 to `number` at a chunk."""
        for n in range(1, number + 1):
            self.store.delete(f"{_marks(video_id)}/{run_id}.{pool}.{first_cell}.{n}")

    def _name(self, video_id: str, kind: str, span: ChunkSpan) -> str:
        folder = self.keys.folders[kind == "enriched"]
        end = "end" if span[1] < 0 else f"{span[1]:08d}"
        return f"{WORK}/{video_id}/{folder}/{span[0]:08d}-{end}.parquet"

    def _read(self, video_id: str, kind: str, span: ChunkSpan, columns: Sequence[str]) -> pa.Table:
        content = self.store.read(self._name(video_id, kind, span))
        return pq.ParquetFile(io.BytesIO(content)).read(columns=list(columns), use_threads=False)


def _marks(video_id: str) -> str:
    """Return the name of the folder of the marks of a video."""
    return f"{WORK}/{video_id}/attempts"


def _mark(node: str, *more: str) -> bytes:
    """Return the content of a mark: a text that no other mark has, the node, and more words."""
    return " ".join((uuid.uuid4().hex, node, *more)).encode()


def is_whole(chunks: Sequence[ChunkSpan]) -> bool:
    """Return whether sorted `chunks` cover a video from its first cell to its end without a gap."""
    reached = 0
    for first, end in chunks:
        if first != reached:
            return False
        reached = end
    return reached == -1


def count_durable(names: Iterable[str]) -> dict[str, int]:
    """Return the number of chunks of each video among the files of the working area, under any key."""
    count: dict[str, int] = defaultdict(int)
    for name in names:
        parts = name.split("/")
        if len(parts) == 4 and parts[2].startswith("observed-"):
            count[parts[1]] += 1
    return dict(count)


def drop_older(store: Store, stamps: Mapping[str, Stamp], limit: datetime, *, spared: Collection[str] = ()) -> None:
    """Remove the work of each video that got no new object since `limit`, except the videos in `spared`.

    stamps: of the files of the working area.
    """
    newest: dict[str, datetime] = {}
    for name, stamp in stamps.items():
        if name.startswith(f"{SUMMARIES}/"):
            continue
        video_id = name.split("/")[1]
        changed = stamp.changed or datetime.now(UTC)
        newest[video_id] = max(newest.get(video_id, changed), changed)
    for video_id, changed in newest.items():
        if changed < limit and video_id not in spared:
            store.delete_tree(f"{WORK}/{video_id}")


def summary_name(video_id: str) -> str:
    """Return the name of the summary that links a published video to other files."""
    return f"{SUMMARIES}/{video_id}.parquet"


def summarised(names: Iterable[str]) -> set[str]:
    """Return the videos that can still be linked to other files, by the files of the working area."""
    start = f"{SUMMARIES}/"
    return {name.removeprefix(start).removesuffix(".parquet") for name in names if name.startswith(start)}


def drop_older_summaries(
    store: Store, stamps: Mapping[str, Stamp], limit: datetime, *, spared: Collection[str] = ()
) -> None:
    """Remove the summaries that were written before `limit`, except those of the videos in `spared`.

    stamps: of the files of the working area.
    """
    kept = {summary_name(video_id) for video_id in spared}
    for name, stamp in stamps.items():
        if name.startswith(f"{SUMMARIES}/") and (stamp.changed or limit) < limit and name not in kept:
            store.delete(name)


def _span(name: str) -> ChunkSpan:
    first, end = name.removesuffix(".parquet").split("-")
    return int(first), -1 if end == "end" else int(end)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
