"""The proof that an output holds nothing more about forgotten persons and videos: everything is read again."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from pipeline.columns import integers
from pipeline.storage import traces
from pipeline.storage.ledger import WORK, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.storage.tombstones import FOLDER, Removal

COLUMNS = ("person_id", "tracklet_id", "tracklet_a", "tracklet_b")


def find_traces(store: Store, removals: Sequence[Removal]) -> tuple[int, list[str]]:
    """Return the number of files that were read, and the names of those that still hold something.

    Files that are named after another video, in a dataset of one file per video, hold nothing else and are not read.
    """
    index = OutputIndex.load(store)
    by_id = {removal.video_id: removal for removal in removals}
    names = {video_id: index.file_names(video_id) for video_id in index.videos.keys() | by_id.keys()}
    left = traces.derived_files(store, by_id.keys(), names)
    csv_names = {name: removal for removal in removals for name in index.csv_names(removal.video_id)}
    others = {f"{video_id}.parquet" for video_id in index.videos.keys() - by_id.keys()}
    num_read = 0
    for name in store.names("", hidden=True):
        if name.startswith((f"{FOLDER}/", *(f"{folder}/" for folder in traces.DERIVED))):
            continue
        if name.rpartition("/")[2] in others or (name.startswith("csv/") and name not in csv_names):
            continue
        num_read += 1
        if _holds_person(store, name, csv_names[name]) if name in csv_names else _holds(store, name, by_id):
            left.append(name)
    return num_read, left


def _holds_person(store: Store, name: str, removal: Removal) -> bool:
    """Return whether a CSV holds a person of its video."""
    with store.open(name) as file:
        return bool(np.isin(integers(pv.read_csv(file), "person id"), list(removal.person_ids)).any())


def _holds(store: Store, name: str, removals: dict[str, Removal]) -> bool:
    """Return whether a file holds something about what was removed."""
    if any(name.startswith(f"{WORK}/{video_id}/") for video_id in removals):
        return True
    if not name.endswith(".parquet"):
        content = store.read(name)
        return any(removal.is_whole and video_id.encode() in content for video_id, removal in removals.items())
    for video_id, removal in removals.items():
        if removal.is_whole and video_id in name:
            return True
    with store.open(name) as file:
        reader = pq.ParquetFile(file)
        known = [column for column in ("video_id", *COLUMNS) if column in reader.schema_arrow.names]
        return any(
            _is_about(name, reader.read_row_group(number, known, use_threads=False), removal)
            for number in range(reader.num_row_groups)
            for removal in removals.values()
        )


def _is_about(name: str, table: pa.Table, removal: Removal) -> bool:
    if "video_id" in table.column_names:
        is_of_it = [video_id == removal.video_id for video_id in table["video_id"].to_pylist()]
        table = table.filter(pa.array(is_of_it, pa.bool_()))
    elif name != summary_name(removal.video_id):
        return False
    if removal.is_whole:
        return len(table) > 0
    return any(
        np.isin(
            integers(table, column, null=0),
            list(removal.person_ids if column == "person_id" else removal.tracklet_ids),
        ).any()
        for column in COLUMNS
        if column in table.column_names
    )
