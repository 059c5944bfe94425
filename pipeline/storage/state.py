"""The sources and videos of an output. A run reads them at its start and writes them as it proceeds.

Only one run at a time writes to an output. `sources` is one small file. Each video has its own row of `videos`.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import rows
from pipeline.errors import UserError, absent
from pipeline.storage import tables
from pipeline.storage.ledger import WORK
from pipeline.storage.names import Names, is_sound, same
from pipeline.storage.places import is_below
from pipeline.storage.sources import Listing, Source, in_order, is_known
from pipeline.storage.store import Store, plain_cause

ASIDE = "relinked"
SOURCES_FILE = "sources/sources.parquet"
Row = dict[str, Any]


@dataclass(slots=True)
class State:
    """The rows of sources and videos of one output.

    store: the place of the output.
    sources: uri -> row of the dataset `sources`.
    videos: video_id -> row of the dataset `videos`.
    """

    store: Store
    sources: dict[str, Row] = field(default_factory=dict)
    videos: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> "State":
        sources = {row["uri"]: row for row in tables.read(store, "sources").to_pylist()}
        for row in sources.values():
            if row["csv"] is not None and not is_sound(row["csv"]):  # earlier versions accepted such names
                row["csv"] = None
        videos = {row["video_id"]: row for row in tables.read(store, "videos").to_pylist()}
        return cls(store, sources, videos)

    @classmethod
    def open(cls, uri: str) -> "State":
        """Return the state of an existing output. Raises UserError if there is none or it cannot be read."""
        store = Store(uri)
        try:
            names = store.names("videos")
        except Exception as error:  # every kind of store has its own exceptions
            raise UserError(f"cannot read {uri}: {plain_cause(error)}; check the place and your permissions") from error
        if not names and "://" not in uri and not os.path.isdir(store.uri):
            raise absent(Path(uri), "folder", "name an output of `process`")
        if not names:
            raise UserError(f"{uri} is no output of rollcall: it has no dataset `videos`; name an output of `process`")
        return cls.load(store)

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
        for row in self.vanished(listing):
            row["current"] = False
            if row["video_id"] is None and row["csv"] is None:  # a folder that could not be listed
                del self.sources[row["uri"]]
        self._drop_names_below_files()
        given = (row["csv"] for row in self.sources.values() if row["csv"])
        names = Names(given, self.store.holds if may_write else lambda _: True)
        for source in listing.sources:
            row = self.sources.setdefault(source.uri, dict.fromkeys(rows.DATASETS["sources"].names))
            root = row["named_by"] if row["current"] else source.named_by
            row |= {"uri": source.uri, "current": True, "named_by": root}
            row |= {"size_bytes": source.size_bytes, "etag": source.etag}
            if row["csv"] is None and not source.is_unlisted:
                row["csv"] = names.give(f"csv/{source.name}", ".csv")
        self._name_sequences(listing)

    def _drop_names_below_files(self) -> None:
        """Remove CSV names that no folder can hold, because an earlier version used part of the path as the name of
        a file."""
        files = {same(row["csv"]) for row in self.sources.values() if row["csv"]}
        for row in self.sources.values() if self.store.is_local else ():
            parts = same(row["csv"] or "").split("/")
            if any("/".join(parts[:end]) in files for end in range(1, len(parts))):
                row["csv"] = None

    def _name_sequences(self, listing: Listing) -> None:
        """Record the order of the files in each sequence. A source belongs to the sequence in which it was last
        named."""
        named: dict[str, list[str]] = defaultdict(list)
        for source in sorted(listing.sources, key=lambda source: source.place):
            if source.sequence is not None:
                named[source.sequence].append(source.uri)
        before = {sequence: [row["uri"] for row in members] for sequence, members in self.sequences().items()}
        for source in listing.sources:
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
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.sources.values():
            if row["sequence"] is not None:
                found[row["sequence"]].append(row)
        return {name: sorted(found[name], key=lambda row: row["position"]) for name in sorted(found)}

    def csv_names(self, video_id: str) -> list[str]:
        """Return the names of the CSV files of a video: one per current source, or per former source if none is
        current."""
        own = [row for row in self.sources.values() if row["video_id"] == video_id and row["csv"] is not None]
        return sorted(row["csv"] for row in own if row["current"] or not any(each["current"] for each in own))

    def file_names(self, video_id: str) -> list[str]:
        """Return the names of a video's files without suffix: those of its CSVs, or its id if no source has a CSV
        name."""
        names = [name.removeprefix("csv/").removesuffix(".csv") for name in self.csv_names(video_id)]
        return names or [video_id]

    def set_source(self, uri: str, **values: Any) -> None:
        self.sources[uri] |= values

    def follow_videos(self) -> None:
        """Copy the status of each video to its sources."""
        for row in self.sources.values():
            video = self.videos.get(row["video_id"])
            if video is not None:
                row |= {name: video[name] for name in ("status", "stage", "reason")}

    def save_sources(self) -> None:
        ordered = [self.sources[uri] for uri in sorted(self.sources)]
        tables.write_rows(self.store, SOURCES_FILE, rows.DATASETS["sources"], ordered)


def write_video(store: Store, row: Mapping[str, Any]) -> None:
    """Write the row of a video. It is the last write of a video, and from then on all its tables count."""
    tables.write_rows(store, f"videos/{row['video_id']}.parquet", rows.DATASETS["videos"], [row])


def read_video(store: Store, video_id: str) -> Row | None:
    """Return the published row of a video, or None if there is none."""
    try:
        found = tables.read_one(store, "videos", video_id).to_pylist()
    except FileNotFoundError:
        return None
    return found[0] if found else None


def hide_video(store: Store, video_id: str) -> None:
    """Withdraw the row of a published video before its tables change one by one.

    Its file stays, without a row, because a reader that has listed the folder would fail on a missing file.
    """
    if store.exists(f"videos/{video_id}.parquet"):
        tables.write_rows(store, f"videos/{video_id}.parquet", rows.DATASETS["videos"], [])


def write_recipe(store: Store, config_id: str, recipe: Mapping[str, Any]) -> None:
    """Write the configuration that a config_id stands for."""
    store.put(_recipe(config_id), json.dumps(recipe, indent=2, sort_keys=True).encode())


def read_recipe(store: Store, config_id: str) -> Row | None:
    """Return what `write_recipe` wrote, or None if there is nothing. Raises UserError if the file is not JSON."""
    try:
        return json.loads(store.read(_recipe(config_id)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        where = store.full(_recipe(config_id))
        raise UserError(f"{where} is not JSON: {error}; run `process` again on these sources") from None


def _recipe(config_id: str) -> str:
    return f"recipes/{config_id}.json"


def aside(store: Store, video_id: str) -> Store:
    """Return a store in the working area for tables that will replace those of a published video once they are
    complete."""
    return Store(store.full(_aside(video_id)))


def replace_video(store: Store, video_id: str) -> None:
    """Replace the published tables of a video with the complete ones in its `aside` store.

    Meanwhile, `videos` does not list the video as done. A repeated call finishes an interrupted replacement.
    """
    place, row, mark = f"{_aside(video_id)}/", f"videos/{video_id}.parquet", _no_biometrics(video_id)
    hide_video(store, video_id)
    # The name of a CSV comes from its source, and may begin with a dot.
    names = store.names(_aside(video_id), hidden=True)
    if mark in names:
        store.delete(f"embeddings/{video_id}.parquet")
    for name in names:
        if name not in (f"{place}{row}", mark):
            store.move(name, name.removeprefix(place))
    store.move(f"{place}{row}", row)
    kept = [name for name in store.names(f"{WORK}/{video_id}") if not name.startswith(place)]
    store.delete_tree(_aside(video_id) if kept else f"{WORK}/{video_id}")


def drop_biometrics(store: Store, video_id: str) -> None:
    """Mark the `aside` store, so that kept embeddings are removed when it replaces the published tables."""
    store.put(_no_biometrics(video_id), b"")


def finish_replacing(store: Store, video_id: str | None = None) -> None:
    """Finish interrupted calls of `replace_video`, for one video or all. Incomplete replacements are removed."""
    names = [name.split("/") for name in store.names(_aside(video_id) if video_id else WORK)]
    for begun in sorted({parts[1] for parts in names if len(parts) > 3 and parts[2] == ASIDE}):
        if store.exists(f"{_aside(begun)}/videos/{begun}.parquet"):
            replace_video(store, begun)
        else:
            store.delete_tree(_aside(begun))


def _aside(video_id: str) -> str:
    return f"{WORK}/{video_id}/{ASIDE}"


def _no_biometrics(video_id: str) -> str:
    return f"{_aside(video_id)}/no-biometrics"


def quarantined_row(video_id: str, uri: str, config_id: str, stage: str, reason: str) -> Row:
    blank = dict.fromkeys(rows.DATASETS["videos"].names)
    told = {"status": "quarantined", "stage": stage, "reason": reason, "config_id": config_id}
    return blank | {"video_id": video_id, "uri": uri} | told


def write_run(store: Store, run_id: str, records: list[Row]) -> None:
    tables.write_rows(store, f"runs/{run_id}.parquet", rows.DATASETS["runs"], records)


def run_row(run_id: str, video_id: str, started_at: datetime, **values: Any) -> Row:
    return {"run_id": run_id, "video_id": video_id, "started_at": started_at} | values


def _is_below_one(uri: str, roots: Iterable[str]) -> bool:
    """Return whether a folder or prefix among `roots` would list the file at `uri`."""
    return is_known(uri) and any(is_below(uri, root) for root in roots)
