"""The index of an output: its sources and videos. A run reads them at its start and writes them as it proceeds.

Only one run at a time writes to an output. `sources` is one small file. Each video has its own row of `videos`.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.columns import no_rows
from pipeline.errors import PassingError, UserError, absent
from pipeline.storage import tables, video_rows
from pipeline.storage.faults import plain_cause
from pipeline.storage.names import Names, is_sound, same
from pipeline.storage.places import is_below
from pipeline.storage.sequences import in_order
from pipeline.storage.sources import Listing, Source, is_known
from pipeline.storage.store import Stamp, Store
from pipeline.storage.tombstones import Tombstones

SOURCES_FILE = "sources/sources.parquet"
Row = dict[str, Any]
NO_NEWER = "no newer tables: "
"""The beginning of the reason of a source whose tables could not be made under another configuration."""


@dataclass(frozen=True, slots=True)
class FailedTables:
    """Newer tables of a published video that could not be made. Its older tables stay.

    config_id: of the newer tables.
    stage: the stage that failed.
    reason: text for the user.
    """

    config_id: str
    stage: str
    reason: str


@dataclass(slots=True)
class OutputIndex:
    """The rows of sources and videos of one output.

    store: the place of the output.
    sources: uri -> row of the dataset `sources`.
    videos: video_id -> row of the dataset `videos`.
    failed: video_id -> the newer tables that could not be made, of videos that are done under another configuration.
    tombstones: of forgotten videos and persons.
    """

    store: Store
    sources: dict[str, Row] = field(default_factory=dict)
    videos: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, FailedTables] = field(default_factory=dict)
    tombstones: Tombstones = field(default_factory=Tombstones)
    _of_videos: dict[str, list[Row]] | None = None

    @classmethod
    def load(cls, store: Store, *, refreshes: bool = False, stamps: Mapping[str, Stamp] | None = None) -> "OutputIndex":
        """Return the index of the output in `store`. It is empty for a new output.

        refreshes: whether the cache of `videos` is written anew if it is old. Only the process that writes the output
            may do so.
        stamps: of the files of `videos`, if they have just been listed.
        """
        sources = {row["uri"]: row for row in _read_sources(store).to_pylist()}
        for row in sources.values():
            if row["csv"] is not None and not is_sound(row["csv"]):  # earlier versions accepted such names
                row["csv"] = None
        videos = video_rows.read(store, stamps)
        if refreshes:
            video_rows.refresh(store, videos)
        by_id = videos.by_id()
        failed = {
            row["video_id"]: FailedTables(row["failed_config_id"], row["stage"], row["reason"].removeprefix(NO_NEWER))
            for row in sources.values()
            if row["failed_config_id"] is not None and by_id.get(row["video_id"], {}).get("status") == "done"
        }
        return cls(store, sources, by_id, failed, Tombstones.of(store))

    @classmethod
    def open(cls, uri: str) -> "OutputIndex":
        """Return the index of an existing output. Raises UserError if there is none or it cannot be read, and
        PassingError if that may pass."""
        store, stamps = _opened(uri)
        return cls.load(store, stamps=stamps)

    def done(self) -> list[str]:
        """Return the ids of the videos whose tables are complete, sorted."""
        return sorted(video_id for video_id, row in self.videos.items() if row["status"] == "done")

    def known_id(self, source: Source) -> str | None:
        """Return the content id of a source whose etag and size are unchanged since it was last read, else None."""
        row = self.sources.get(source.uri)
        if row is None or not source.etag or (row["etag"], row["size_bytes"]) != (source.etag, source.size_bytes):
            return None
        return row["video_id"]

    def vanished(self, listing: Listing) -> list[Row]:
        """Return the sources that the roots of `listing` would name if they still existed.

        Sources below a folder that cannot be listed are left out, because they may still exist.
        """
        listed, roots = {source.uri for source in listing.sources}, set(listing.roots)
        unlisted = [source.uri for source in listing.sources if source.is_unlisted]
        return [
            row
            for row in self.sources.values()
            if row["uri"] not in listed
            and (row["named_by"] in roots or _is_below_one(row["uri"], roots))
            and not any(is_below(row["uri"], folder) for folder in unlisted)
        ]

    def _uris_of_current(self) -> dict[str, list[str]]:
        uris = defaultdict(list)
        for uri, row in sorted(self.sources.items()):
            if row["current"] and row["video_id"] is not None:
                uris[row["video_id"]].append(uri)
        return uris

    def renamed(self) -> dict[str, str]:
        """Return the uri of each source that is gone, with the current uri of the same content."""
        current = self._uris_of_current()
        return {
            uri: current[row["video_id"]][0]
            for uri, row in sorted(self.sources.items())
            if not row["current"] and row["video_id"] in current
        }

    def unnamed(self) -> list[str]:
        """Return the ids of the videos that no current source names, sorted."""
        return sorted(self.videos.keys() - self._uris_of_current().keys())

    def name_sources(self, listing: Listing, *, may_write: bool = True) -> None:
        """Record the sources that this run names. A source that the same `roots` named earlier and that is gone is
        not current.

        may_write: whether unusual names are tried on the file system of the output.
        """
        self.leave_vanished(listing)
        self.add_sources(listing.sources, self.names_in_use(may_write=may_write))

    def leave_vanished(self, listing: Listing) -> None:
        """Record that the sources are not current which a complete listing should name and does not."""
        self._of_videos = None
        for row in self.vanished(listing):
            row["current"] = False
            if row["video_id"] is None and row["csv"] is None:  # a folder that could not be listed
                del self.sources[row["uri"]]

    def names_in_use(self, *, may_write: bool = True) -> Names:
        """Return the names of the CSV files of the sources.

        may_write: as in `name_sources`.
        """
        self._drop_names_below_files()
        given = (row["csv"] for row in self.sources.values() if row["csv"])
        return Names(given, self.store.holds if may_write else lambda _: True)

    def add_sources(self, sources: Sequence[Source], names: Names) -> None:
        """Record that sources are current, and name their CSV files in order. A whole listing may come in parts.

        names: those that are in use.
        """
        self._of_videos = None
        for source in sources:
            row = self.sources.setdefault(source.uri, dict.fromkeys(rows.DATASETS["sources"].names))
            root = row["named_by"] if row["current"] else source.named_by
            row |= {"uri": source.uri, "current": True, "named_by": root}
            row |= {"size_bytes": source.size_bytes, "etag": source.etag}
            if row["csv"] is None and not source.is_unlisted:
                row["csv"] = names.give(f"csv/{source.name}", ".csv")
        self._name_sequences(sources)

    def _drop_names_below_files(self) -> None:
        """Remove CSV names that no folder can hold, because an earlier version used part of the path as the name of
        a file."""
        files = {same(row["csv"]) for row in self.sources.values() if row["csv"]}
        for row in self.sources.values() if self.store.is_local else ():
            parts = same(row["csv"] or "").split("/")
            if any("/".join(parts[:end]) in files for end in range(1, len(parts))):
                row["csv"] = None

    def _name_sequences(self, sources: Sequence[Source]) -> None:
        """Record the order of the files in each sequence. A source belongs to the sequence in which it was last
        named."""
        named: dict[str, list[str]] = defaultdict(list)
        for source in sorted(sources, key=lambda source: source.place):
            if source.sequence is not None:
                named[source.sequence].append(source.uri)
        before = {sequence: [row["uri"] for row in members] for sequence, members in self.sequences().items()}
        for source in sources:
            if source.sequence is not None:
                self.set_source(source.uri, sequence=source.sequence, recorded_at=source.recorded_at)
        for sequence in before.keys() | named.keys():
            known = [uri for uri in before.get(sequence, []) if self.sources[uri]["sequence"] == sequence]
            self._set_positions(in_order(sequence, known, named.get(sequence, [])))

    def close_ranks(self) -> None:
        """Renumber the files of every sequence after some were removed."""
        for members in self.sequences().values():
            self._set_positions([row["uri"] for row in members])

    def _set_positions(self, uris: Iterable[str]) -> None:
        for position, uri in enumerate(uris, start=1):
            self.set_source(uri, position=position)

    def sequences(self) -> dict[str, list[Row]]:
        """Return the sources of every sequence, in order."""
        members: dict[str, list[Row]] = defaultdict(list)
        for row in self.sources.values():
            if row["sequence"] is not None:
                members[row["sequence"]].append(row)
        return {name: sorted(members[name], key=lambda row: row["position"]) for name in sorted(members)}

    def csv_names(self, video_id: str) -> list[str]:
        """Return the names of the CSV files of a video: one per current source, or per former source if none is
        current."""
        named = [row for row in self.sources_of(video_id) if row["csv"] is not None]
        current = [row for row in named if row["current"]]
        return sorted(row["csv"] for row in current or named)

    def sources_of(self, video_id: str) -> list[Row]:
        """Return the sources of a video, current ones and others."""
        if self._of_videos is None:
            self._of_videos = defaultdict(list)
            for row in self.sources.values():
                self._of_videos[row["video_id"]].append(row)
        return self._of_videos.get(video_id, [])

    def file_names(self, video_id: str) -> list[str]:
        """Return the names of a video's files without suffix: those of its CSVs, or its id if no source has a CSV
        name."""
        names = [name.removeprefix("csv/").removesuffix(".csv") for name in self.csv_names(video_id)]
        return names or [video_id]

    def set_source(self, uri: str, **values: Any) -> None:
        """Set columns of the source at `uri`."""
        self.sources[uri] |= values
        if "video_id" in values:
            self._of_videos = None

    def drop_source(self, uri: str) -> None:
        """Remove the source at `uri`."""
        del self.sources[uri]
        self._of_videos = None

    def follow_videos(self) -> None:
        """Copy the status of each video to its sources. A source of a forgotten video has no CSV."""
        for row in self.sources.values():
            video = self.videos.get(row["video_id"])
            if row["video_id"] in self.tombstones.videos:
                self.set_source(
                    row["uri"], csv=None, status="forgotten", stage=None, reason=None, failed_config_id=None
                )
            if video is None:
                continue
            state = {name: video[name] for name in ("status", "stage", "reason")} | {"failed_config_id": None}
            if video["status"] == "done" and (failed := self.failed.get(row["video_id"])):
                state |= {"stage": failed.stage, "reason": f"{NO_NEWER}{failed.reason}"}
                state["failed_config_id"] = failed.config_id
            row.update(state)

    def save_sources(self) -> None:
        """Write the dataset `sources`."""
        ordered = [self.sources[uri] for uri in sorted(self.sources)]
        tables.write_rows(self.store, SOURCES_FILE, rows.DATASETS["sources"], ordered)


def _read_sources(store: Store) -> pa.Table:
    try:
        return tables.read_small_file(store, SOURCES_FILE, rows.DATASETS["sources"])
    except FileNotFoundError:
        return no_rows(rows.DATASETS["sources"])


def open_output(uri: str) -> Store:
    """Return the place of an existing output. Raises UserError if there is none or it cannot be read."""
    return _opened(uri)[0]


def _opened(uri: str) -> tuple[Store, dict[str, Stamp]]:
    """Return the place of an existing output, and the files of its dataset `videos`."""
    store = Store(uri)
    try:
        stamps = store.stamps("videos")
    except PassingError:
        raise
    except Exception as error:  # every kind of store has its own exceptions
        raise UserError(f"cannot read {uri}: {plain_cause(error)}; check the place and your permissions") from error
    if not stamps and "://" not in uri and not os.path.isdir(store.uri):
        raise absent(Path(uri), "folder", "name an output of `process`")
    if not stamps and store.stamps("_events"):
        raise UserError(f"{uri} has no tables yet: no run got as far as that; run `process` again")
    if not stamps:
        raise UserError(f"{uri} is no output of rollcall: it has no dataset `videos`; name an output of `process`")
    return store, stamps


def _is_below_one(uri: str, roots: Iterable[str]) -> bool:
    """Return whether a folder or prefix among `roots` would list the file at `uri`."""
    return is_known(uri) and any(is_below(uri, root) for root in roots)
