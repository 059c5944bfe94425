"""What an output holds about some videos beside their tables: files made from the tables, events, accounts of runs,
snapshots, and the cache of `videos`. Everything here can be repeated after an interruption.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa

from pipeline import rows
from pipeline.errors import UserError
from pipeline.storage import event_log, tables, video_rows
from pipeline.storage.compaction import compact_output
from pipeline.storage.ledger import WORK, summary_name
from pipeline.storage.names import same
from pipeline.storage.snapshots import CONTENT, CONTENTS, FOLDER, SMALL, OutputListing, Snapshot
from pipeline.storage.store import Store, side_by_side

DERIVED = ("annotated", "anonymised", "export", "report")
"""The folders of files that commands make from the tables, and can make again."""


def derived_files(store: Store, video_ids: Collection[str], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the files made from the tables that may hold something about some videos.

    names: by video_id, for all videos of the output, the names of the video's files without suffix.

    A file stays only if its name says that it is about another video. All others may be about many videos.
    """
    owners = {same(name): video_id for video_id, files in names.items() for name in (*files, video_id)}
    return [
        name
        for folder in DERIVED
        for name in store.names(folder, hidden=True)
        if (owner := _owner(same(_copy(name)), owners)) is None or owner in video_ids
    ]


def _copy(name: str) -> str:
    """Return the name of a copy for that of its mark (`copies`), and any other name unchanged."""
    above, slash, last = name.rpartition("/")
    return f"{above}{slash}{last[1:]}" if last.startswith(".") and last.endswith(".json") else name


def _owner(name: str, owners: Mapping[str, str]) -> str | None:
    """Return the video that a file is about, by the longest beginning of its name that is a name of a video."""
    *above, last = name.split("/")
    parts = [*above, last.removeprefix(".")]  # the mark of a copy
    for below in range(1, min(len(parts), 3)):  # export/FORMAT/NAME has one folder more
        rest = "/".join(parts[below:])
        ends = [place for place, character in enumerate(rest) if character in "./"]
        for end in (len(rest), *reversed(ends)):
            if (owner := owners.get(rest[:end])) is not None:
                return owner
    return None


def delete_work(store: Store, video_id: str) -> None:
    """Remove the files of a video in the working area."""
    store.delete_tree(f"{WORK}/{video_id}")
    store.delete(summary_name(video_id))


def drop_events(store: Store, video_ids: Collection[str]) -> None:
    """Remove the lines about some videos from the events of all runs."""
    marks = [video_id.encode() for video_id in video_ids]

    def drop(name: str) -> None:
        lines = store.read(name).splitlines(keepends=True)
        kept = [line for line in lines if not any(mark in line for mark in marks)]
        if len(kept) < len(lines):
            store.put(name, b"".join(kept))

    side_by_side(store, drop, store.names(event_log.FOLDER))


def drop_rows(store: Store, dataset: str, video_ids: Collection[str]) -> None:
    """Remove the rows about some videos from the files of a dataset that hold many videos."""
    schema = rows.DATASETS[dataset]
    for name in store.names(dataset):
        table = tables.read_file(store, name, schema)
        stays = _about_others(table, video_ids)
        if not all(stays):
            tables.write(store, name, schema, [table.filter(pa.array(stays, pa.bool_()))])


def drop_from_snapshots(store: Store, video_ids: Collection[str]) -> list[str]:
    """Remove every generation that holds rows about some videos as they were. Return the names of the generations.

    The tables of these videos must be changed already. If the valid generation is one of them, a new one takes its
    place first.
    """
    versions = OutputListing.of(store).versions()
    stale = [name for name in store.folders(FOLDER) if _is_stale(store, f"{FOLDER}/{name}", video_ids, versions)]
    valid = Snapshot.read(store) if stale else None
    if valid is not None and valid.generation in stale:
        compact_output(store)
    for name in stale:
        store.delete_tree(f"{FOLDER}/{name}")
    return stale


def _is_stale(store: Store, folder: str, video_ids: Collection[str], versions: Mapping[str, str]) -> bool:
    """Return whether a generation has rows about one of the videos that are not those of its present version."""
    try:
        contents = tables.read_file(store, f"{folder}/{CONTENTS}", CONTENT)
        for row in contents.to_pylist():
            if row["video_id"] in video_ids and row["version"] != versions.get(row["video_id"]):
                return True
        gone = set(video_ids) - versions.keys()
        for dataset in SMALL:
            for name in store.names(f"{folder}/{dataset}"):
                if not all(_about_others(tables.read_file(store, name, rows.DATASETS[dataset]), gone)):
                    return True
    except (FileNotFoundError, pa.ArrowException, UserError):
        return True  # it was never complete, or is damaged
    return False


def _about_others(table: pa.Table, video_ids: Collection[str]) -> list[bool]:
    return [video_id not in video_ids for video_id in table["video_id"].to_pylist()]


def forget_cached(store: Store, video_ids: Iterable[str]) -> None:
    """Remove the rows of some videos from the cache of `videos`."""
    video_rows.drop(store, {f"videos/{video_id}.parquet" for video_id in video_ids})
