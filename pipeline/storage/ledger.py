"""What is durable while a video is on its way: two objects per chunk, and marks of the attempts at it.

    _work/VIDEO/observed-KEY/FIRST-END.parquet    frame times, cut features, boxes, body embeddings
    _work/VIDEO/enriched-KEY/FIRST-END.parquet    faces and their estimates
    _work/VIDEO/attempts/RUN.POOL.FIRST.N         a worker began the N-th try
    _work/sequences/VIDEO.parquet                 rows.SUMMARY of a published video, for the files that follow it
    _work/VIDEO/tracked/PART.N.rows               boxes of tracks, while the video is reduced

FIRST and END are cells; END is `end` for the chunk that goes on to the end of the video. KEY stands for the knobs and
weights that shape the object. A chunk is durable when both of its objects are there.
"""

import io
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.storage.store import Store

WORK = "_work"
SUMMARIES = f"{WORK}/sequences"
TRACKED = "tracked"
Span = tuple[int, int]
"""[first cell, end cell); the end is -1 where the chunk goes on to the end of the video."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the durable objects depend on, as short hashes."""

    observed: str
    enriched: str

    @property
    def folders(self) -> tuple[str, str]:
        return f"observed-{self.observed}", f"enriched-{self.enriched}"


@dataclass(frozen=True, slots=True)
class Objects:
    """Every durable object there is. spans: video_id -> name of the folder -> the chunks that it has."""

    spans: Mapping[str, Mapping[str, set[Span]]]

    @classmethod
    def of(cls, store: Store) -> "Objects":
        found: dict[str, dict[str, set[Span]]] = defaultdict(lambda: defaultdict(set))
        for name in store.names(WORK):
            parts = name.split("/")
            if len(parts) == 4 and parts[3].endswith(".parquet"):
                found[parts[1]][parts[2]].add(_span(parts[3]))
        return cls({video_id: dict(by_folder) for video_id, by_folder in found.items()})

    def durable(self, video_id: str, keys: Keys) -> list[Span]:
        """The chunks of a video of which both objects are there under `keys`, in order."""
        by_folder = self.spans.get(video_id, {})
        observed, enriched = (by_folder.get(name, set()) for name in keys.folders)
        return sorted(observed & enriched)


@dataclass(frozen=True, slots=True)
class Ledger:
    store: Store
    keys: Keys

    def commit(self, video_id: str, span: Span, observed: pa.Table, enriched: pa.Table) -> None:
        """Make one chunk durable: one row of rows.OBSERVED and one of rows.ENRICHED. Doing it again changes nothing."""
        self.commit_enriched(video_id, span, enriched)
        self.store.put(self._name(video_id, "observed", span), _parquet(rows.conform(observed, rows.OBSERVED)))

    def commit_enriched(self, video_id: str, span: Span, enriched: pa.Table) -> None:
        """Put one row of rows.ENRICHED beside an observed object that is durable already."""
        self.store.put(self._name(video_id, "enriched", span), _parquet(rows.conform(enriched, rows.ENRICHED)))

    def durable(self) -> dict[str, list[Span]]:
        """The durable chunks of every video under these keys, in order."""
        objects = Objects.of(self.store)
        both = {video_id: objects.durable(video_id, self.keys) for video_id in objects.spans}
        return {video_id: spans for video_id, spans in both.items() if spans}

    def observed(self, video_id: str, span: Span, columns: Sequence[str]) -> pa.Table:
        """One row of these columns; `detections.list.element.frame` reads one field of a list of structs."""
        return self._read(video_id, "observed", span, columns)

    def enriched(self, video_id: str, span: Span, columns: Sequence[str]) -> pa.Table:
        return self._read(video_id, "enriched", span, columns)

    def put_tracked(self, video_id: str, part: int, number: int, rows: bytes) -> str:
        """Keep a block of what was tracked until `clear_tracked`; returns its name. Doing it again overwrites."""
        name = f"{WORK}/{video_id}/{TRACKED}/{part:05d}.{number:05d}.rows"
        self.store.put(name, rows)
        return name

    def tracked(self, name: str) -> bytes:
        """A block that `put_tracked` kept. Raises FileNotFoundError."""
        return self.store.read(name)

    def clear_tracked(self, video_id: str) -> None:
        self.store.delete_tree(f"{WORK}/{video_id}/{TRACKED}")

    def clear(self, video_id: str) -> None:
        self.store.delete_tree(f"{WORK}/{video_id}")

    def begin_attempt(self, video_id: str, run_id: str, pool: str, first_cell: int) -> int:
        """Leave a mark before the work, since a dying worker leaves none. Returns the number of tries so far."""
        prefix = f"{WORK}/{video_id}/attempts/"
        mine = f"{prefix}{run_id}.{pool}.{first_cell}."
        number = 1 + sum(name.startswith(mine) for name in self.store.names(prefix.rstrip("/")))
        self.store.put(f"{mine}{number}", b"")
        return number

    def take_back_attempt(self, video_id: str, run_id: str, pool: str) -> None:
        """Forget the last try that a pool began: its worker ended by no fault of the work."""
        prefix = f"{WORK}/{video_id}/attempts/{run_id}.{pool}."
        marks = [name.rsplit(".", 1) for name in self.store.names(f"{WORK}/{video_id}/attempts") if prefix in name]
        if marks:
            self.store.delete(".".join(max(marks, key=lambda mark: int(mark[1]))))

    def end_attempts(self, video_id: str, run_id: str, pool: str, first_cell: int, number: int) -> None:
        for n in range(1, number + 1):
            self.store.delete(f"{WORK}/{video_id}/attempts/{run_id}.{pool}.{first_cell}.{n}")

    def _name(self, video_id: str, kind: str, span: Span) -> str:
        folder = self.keys.folders[kind == "enriched"]
        end = "end" if span[1] < 0 else f"{span[1]:08d}"
        return f"{WORK}/{video_id}/{folder}/{span[0]:08d}-{end}.parquet"

    def _read(self, video_id: str, kind: str, span: Span, columns: Sequence[str]) -> pa.Table:
        content = self.store.read(self._name(video_id, kind, span))
        return pq.ParquetFile(io.BytesIO(content)).read(columns=list(columns))


def is_whole(spans: Sequence[Span]) -> bool:
    """Whether sorted `spans` cover a video from its first cell to its end without a gap."""
    reached = 0
    for first, end in spans:
        if first != reached:
            return False
        reached = end
    return reached == -1


def count_durable(store: Store) -> dict[str, int]:
    """How many chunks of each video are in the working area, under whatever keys."""
    count: dict[str, int] = defaultdict(int)
    for name in store.names(WORK):
        parts = name.split("/")
        if len(parts) == 4 and parts[2].startswith("observed-"):
            count[parts[1]] += 1
    return dict(count)


def drop_older(store: Store, limit: datetime, *, spared: Collection[str] = ()) -> None:
    """Remove the work of every video to which nothing was added since `limit`, but for those `spared`."""
    newest: dict[str, datetime] = {}
    for name, changed in store.changes(WORK):
        if name.startswith(f"{SUMMARIES}/"):
            continue
        video_id = name.split("/")[1]
        newest[video_id] = max(newest.get(video_id, changed), changed)
    for video_id, changed in newest.items():
        if changed < limit and video_id not in spared:
            store.delete_tree(f"{WORK}/{video_id}")


def summary_name(video_id: str) -> str:
    """Where the working area has what links of a published video to other files need."""
    return f"{SUMMARIES}/{video_id}.parquet"


def summarised(store: Store) -> set[str]:
    """The videos that can still be linked with other files."""
    return {name.removeprefix(f"{SUMMARIES}/").removesuffix(".parquet") for name in store.names(SUMMARIES)}


def drop_older_summaries(store: Store, limit: datetime, *, spared: Collection[str] = ()) -> None:
    """Remove the summaries that were written before `limit`, but for those of `spared` videos."""
    kept = {summary_name(video_id) for video_id in spared}
    for name, changed in store.changes(SUMMARIES):
        if changed < limit and name not in kept:
            store.delete(name)


def _span(name: str) -> Span:
    first, end = name.removesuffix(".parquet").split("-")
    return int(first), -1 if end == "end" else int(end)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
