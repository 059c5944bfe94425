"""The tables of an output as they stood at one moment: each finished video once, with and without a snapshot.

The rows of a video come from the snapshot of `rollcall compact` if it holds the current version of the video, and from
the files of the video otherwise. So a view of many videos opens few files, and is as new as the output.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.columns import no_rows, text_column
from pipeline.errors import DataError, PassingError, UserError
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex, open_output
from pipeline.storage.snapshots import Part, Snapshot, VideoContent, read_contents, video_id_of
from pipeline.storage.store import Store, side_by_side

MOST_ROUNDS = 5
"""How often the list of videos is read again because a run replaced some meanwhile."""


@dataclass(frozen=True, slots=True)
class OutputView:
    """An output at one moment.

    index: its sources and videos.
    versions: version of the row of each video, by video_id.
    left_out: reasons by video_id, of videos whose tables are damaged. Reading fills it.
    """

    index: OutputIndex
    versions: Mapping[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    _snapshot: Snapshot | None = None
    _contents: Mapping[str, VideoContent] = field(default_factory=dict)

    @classmethod
    def open(cls, uri: str) -> "OutputView":
        """Return the present state of an output. Raises UserError if there is none or it cannot be read."""
        store = open_output(uri)
        snapshot, contents = _snapshot_of(store)
        for _ in range(MOST_ROUNDS):
            stamps = store.stamps("videos")
            index = OutputIndex.load(store, stamps=stamps)
            versions = {video_id_of(name): stamp.version for name, stamp in stamps.items()}
            if _replaced(store, {video_id: versions[video_id] for video_id in index.videos}) is None:
                return cls(index, versions, {}, snapshot, contents)
        raise PassingError(f"{uri}: a run replaces videos while they are read; read again when it is done")

    @property
    def store(self) -> Store:
        """The place of the output."""
        return self.index.store

    def read(
        self, dataset: str, video_ids: Collection[str] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows of a dataset for the finished videos among `video_ids`, by default for all.

        `videos` and `sources` also have the rows of quarantined videos, and `sources` those without a video. The rows
        of a video are in the order in which they were written. A video whose tables are damaged is in `left_out`.

        Raises UserError if a run has replaced a video since this view was opened.
        """
        schema = (rows.DATASETS | rows.BIOMETRIC_DATASETS)[dataset]
        schema = pa.schema([schema.field(name) for name in columns]) if columns is not None else schema
        if dataset in ("videos", "sources"):
            of_dataset = self.index.videos if dataset == "videos" else self.index.sources
            table = pa.Table.from_pylist([of_dataset[key] for key in sorted(of_dataset)], rows.DATASETS[dataset])
            return (table if video_ids is None else _only(table, video_ids)).select(schema.names)
        done = [video_id for video_id in self.index.done() if video_ids is None or video_id in video_ids]
        if dataset in rows.VIDEO_TABLES or dataset in rows.BIOMETRIC_DATASETS:
            return pa.concat_tables([no_rows(schema), *self._of_videos(dataset, done, schema)])
        names = [name for name in self.store.names(dataset) if name.endswith(".parquet")]
        files = side_by_side(self.store, lambda name: tables.read_file(self.store, name, rows.DATASETS[dataset]), names)
        table = pa.concat_tables([no_rows(rows.DATASETS[dataset]), *files])
        return _only(table, done).select(schema.names)

    def _of_videos(self, dataset: str, video_ids: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows of videos: first those of the snapshot, then those of videos that it lacks."""
        by_part: dict[int, list[str]] = {}
        alone: list[str] = []
        for video_id in video_ids:
            content = self._contents.get(video_id)
            is_current = content is not None and content.held and content.version == self.versions[video_id]
            if content is None or not is_current or content.rows.get(dataset) is None:  # none: an older snapshot
                alone.append(video_id)
            elif (number := content.parts[dataset]) is not None:
                by_part.setdefault(number, []).append(video_id)
        for number, members in sorted(by_part.items()):
            table = self._of_part(dataset, number, members, schema)
            if table is None:
                alone += members
            else:
                yield table
        read = [video_id for video_id in sorted(alone) if video_id not in self.left_out]
        tables_read = side_by_side(self.store, lambda video_id: self._of_video(dataset, video_id, schema), read)
        if read and (changed := _replaced(self.store, {video_id: self.versions[video_id] for video_id in read})):
            uri = self.index.videos[changed]["uri"]
            raise UserError(f"{uri} has been processed again since {self.store.uri} was opened; open it again")
        for video_id, table in zip(read, tables_read, strict=True):
            if isinstance(table, DataError):
                self.left_out[video_id] = str(table)
            else:
                yield table

    def _of_part(self, dataset: str, number: int, video_ids: Sequence[str], schema: pa.Schema) -> pa.Table | None:
        """Return the rows of videos in a part of the snapshot, or None if the part is gone or damaged."""
        if self._snapshot is None:
            return None
        try:
            with tables.damage_is_a_fault():
                table = read_part(self.store, self._snapshot.parts[dataset][number], video_ids, schema)
        except DataError:
            return None
        expected = sum(self._contents[video_id].rows[dataset] for video_id in video_ids)
        return table if len(table) == expected else None

    def _of_video(self, dataset: str, video_id: str, schema: pa.Schema) -> pa.Table | DataError:
        try:
            with tables.damage_is_a_fault():
                return tables.read_file(self.store, f"{dataset}/{video_id}.parquet", schema)
        except DataError as error:
            may_lack = dataset in rows.BIOMETRIC_DATASETS or dataset in rows.OPTIONAL_TABLES
            if may_lack and not self.store.exists(f"{dataset}/{video_id}.parquet"):
                return no_rows(schema)  # this video was made without biometrics.keep, or without crossings
            return error


def read_part(store: Store, part: Part, video_ids: Collection[str], schema: pa.Schema) -> pa.Table:
    """Return the rows of some videos in a part of a snapshot. Only row groups that may hold some are read."""
    first, last = min(video_ids), max(video_ids)
    with store.open(part.name) as file:
        reader = pq.ParquetFile(file)
        position = reader.schema_arrow.names.index("video_id")
        groups = []
        for number in range(reader.num_row_groups):
            statistics = reader.metadata.row_group(number).column(position).statistics
            if statistics is None or (statistics.min <= last and statistics.max >= first):
                groups.append(number)
        known = {"video_id", *schema.names} & set(reader.schema_arrow.names)
        stored = reader.read_row_groups(groups, sorted(known), use_threads=False)  # see tables.row_groups
    return tables.fit(_only(stored, video_ids), schema)


def _snapshot_of(store: Store) -> tuple[Snapshot | None, Mapping[str, VideoContent]]:
    """Return the valid snapshot and its contents. Without one, or if it is damaged, all rows come from the videos."""
    try:
        if (snapshot := Snapshot.read(store)) is None:
            return None, {}
        with tables.damage_is_a_fault():
            return snapshot, read_contents(store, snapshot)
    except (DataError, UserError):
        return None, {}


def _replaced(store: Store, versions: Mapping[str, str]) -> str | None:
    """Return a video whose row has another version now than in `versions`, or None."""
    now = {video_id_of(name): stamp.version for name, stamp in store.stamps("videos").items()}
    return next((video_id for video_id, version in versions.items() if now.get(video_id) != version), None)


def _only(table: pa.Table, video_ids: Collection[str]) -> pa.Table:
    """Return the rows that belong to some videos."""
    wanted = text_column(sorted(video_ids))
    return table.filter(pc.is_in(table["video_id"], wanted))  # pyright: ignore[reportAttributeAccessIssue]
