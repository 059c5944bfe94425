"""Remove persons and videos from everything that an output holds.

Contract:
- What is to be removed is written down first (`tombstones.begin`). `finish` removes it and can be repeated: after an
  interruption, the next command that writes to the output finishes the removal before anything else.
- The tables of a video whose persons are removed are replaced in one step, as those of a relinked video are. All
  other rows keep their bytes, and all other persons keep their numbers.
- Files that were made from the tables and may show the person are removed. Commands can make them again.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.columns import integers, reals
from pipeline.cores.forgotten import paths_of
from pipeline.errors import UserError
from pipeline.storage import records, replacement, tables, tombstones, traces
from pipeline.storage.ledger import WORK, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.storage.tombstones import Removal
from pipeline.video import sequences
from pipeline.video.left_out import LeftOut, boxes_of

PersonKey = tuple[str, int]
"""video_id and person_id."""


@dataclass(slots=True)
class Removed:
    """What was removed.

    rows: number of rows by dataset.
    files: names of files.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    files: list[str] = field(default_factory=list)


def plan_persons(index: OutputIndex, persons: Iterable[PersonKey]) -> list[Removal]:
    """Return the removal of some persons, one for each video. Those who are forgotten already are left out. Raises
    UserError for one who was never there.

    A person of a sequence is removed from all of its files.
    """
    chosen: dict[str, set[int]] = defaultdict(set)
    for video_id, person_id in sequences.spread(index.store, set(persons)):
        chosen[video_id].add(person_id)
    removals = [_plan_video(index, video_id, chosen[video_id]) for video_id in sorted(chosen)]
    return [removal for removal in removals if removal.person_ids]


def _plan_video(index: OutputIndex, video_id: str, person_ids: set[int]) -> Removal:
    store, row = index.store, index.videos.get(video_id)
    if row is None or row["status"] != "done":
        raise UserError(f"{store.uri} has no finished video {video_id}; `persons` has the ids of videos and persons")
    tracklets = tables.read_one(store, "tracklets", video_id, ["tracklet_id", "person_id"])
    persons = integers(tables.read_one(store, "persons", video_id, ["person_id"]), "person_id")
    if (missing := person_ids - set(persons.tolist())) and video_id not in index.tombstones.persons:
        raise UserError(f"video {video_id} has no person {min(missing)}; `persons` has the ids")
    person_ids = person_ids - missing
    chosen = np.isin(integers(tracklets, "person_id"), list(person_ids))
    boxes = defaultdict(list)
    with tables.row_groups(store, f"detections/{video_id}.parquet") as groups:
        for group in groups:
            person = integers(group, "person_id")
            for person_id in person_ids & set(person.tolist()):
                boxes[person_id].append(group.filter(pa.array(person == person_id)))
    return Removal(
        video_id=video_id,
        person_ids=frozenset(person_ids),
        tracklet_ids=frozenset(integers(tracklets, "tracklet_id")[chosen].tolist()),
        forgotten=tuple(
            tuple(
                paths_of(
                    integers(table, "tracklet_id"),
                    integers(table, "frame_num"),
                    reals(table, "time_s"),
                    boxes_of(table),
                )
            )
            for table in (pa.concat_tables(boxes[person_id]) for person_id in sorted(boxes))
        ),
    )


def plan_videos(index: OutputIndex, video_ids: Iterable[str]) -> list[Removal]:
    """Return the removal of some videos. Raises UserError for one of which nothing is known."""
    removals = []
    for video_id in sorted(set(video_ids)):
        is_named = any(row["video_id"] == video_id for row in index.sources.values())
        if not (is_named or video_id in index.videos or index.store.exists(f"videos/{video_id}.parquet")):
            raise UserError(f"{index.store.uri} has no video {video_id}; `sources` and `videos` have the ids")
        removals.append(Removal(video_id=video_id, is_whole=True))
    return removals


def finish(store: Store) -> Removed | None:
    """Remove everything that was begun to be removed. Return what, or None if nothing was begun."""
    removals = tombstones.read_unfinished(store)
    if not removals:
        return None
    removed = Removed()
    for removal in removals:
        tombstones.raise_tombstone(store, removal)
    replacement.finish_replacing(store, store.names(WORK))
    index = OutputIndex.load(store)
    names = {video_id: index.file_names(video_id) for video_id in _all_ids(index, removals)}
    ids = [removal.video_id for removal in removals]
    removed.files = traces.derived_files(store, ids, names)
    for name in removed.files:
        store.delete(name)
    whole = [removal.video_id for removal in removals if removal.is_whole]
    for removal in removals:
        if not removal.is_whole:
            _remove_persons(index, removal, removed)
    persons = {(removal.video_id, person_id) for removal in removals for person_id in removal.person_ids}
    removed.rows["sequences"] += sequences.remove(store, persons, whole)
    if whole:
        remove_videos(index, whole, removed)
        traces.drop_events(store, whole)
        traces.drop_rows(store, "runs", whole)
    traces.drop_from_snapshots(store, ids)
    traces.forget_cached(store, ids)
    for video_id in ids:
        tombstones.end(store, video_id)
    return removed


def _all_ids(index: OutputIndex, removals: Iterable[Removal]) -> set[str]:
    named = {row["video_id"] for row in index.sources.values() if row["video_id"] is not None}
    return named | index.videos.keys() | {removal.video_id for removal in removals}


def _remove_persons(index: OutputIndex, removal: Removal, removed: Removed) -> None:
    """Replace the tables of a video by tables without some persons, unless that is done already."""
    store, video_id = index.store, removal.video_id
    row = index.videos.get(video_id)
    if row is None or row["status"] != "done":  # its tables were removed since
        return
    tracklets = tables.read_one(store, "tracklets", video_id, ["tracklet_id", "person_id"])
    ids = [integers(tracklets, name) for name in ("tracklet_id", "person_id")]
    place = replacement.aside(store, video_id)
    with tables.row_groups(store, f"detections/{video_id}.parquet") as detections:
        faces = tables.read_one(store, "faces", video_id)
        left_out = LeftOut.of(removal.person_ids, ids[0], ids[1], faces, detections)
    num_removed = {}
    for dataset in (*rows.VIDEO_TABLES, "embeddings"):
        if store.exists(f"{dataset}/{video_id}.parquet"):
            num_removed[dataset] = _write_without(store, place, dataset, video_id, left_out)
    if any(num_removed.values()):
        for name in index.csv_names(video_id) if num_removed["detections"] else ():
            tables.write_csv(place, video_id, name)
        records.write_video(place, row | {"num_persons": row["num_persons"] - num_removed["persons"]})
        replacement.replace_video(store, video_id)
    for dataset, num_rows in num_removed.items():
        removed.rows[dataset] += num_rows
    store.delete_tree(f"{WORK}/{video_id}")  # its chunks hold everybody
    name = summary_name(video_id)
    if store.exists(name):
        summaries = tables.read_file(store, name, rows.SUMMARY)
        left = LeftOut(removal.person_ids, removal.tracklet_ids).without("summaries", summaries)
        if len(left) < len(summaries):
            tables.write(store, name, rows.SUMMARY, [left])


def _write_without(store: Store, place: Store, dataset: str, video_id: str, left_out: LeftOut) -> int:
    """Write a table of a video without some persons into `place`, unless nothing changes. Return how many rows it
    lacks."""
    name = f"{dataset}/{video_id}.parquet"
    schema = (rows.DATASETS | rows.BIOMETRIC_DATASETS)[dataset]
    num_before = num_after = 0

    def parts(groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
        nonlocal num_before, num_after
        for group in groups:
            left = left_out.without(dataset, tables.fit(group, schema))
            num_before, num_after = num_before + len(group), num_after + len(left)
            yield left

    with tables.row_groups(store, name) as groups:
        tables.write(place, name, schema, parts(groups))
    if num_before == num_after:
        place.delete(name)
    return num_before - num_after


def remove_videos(index: OutputIndex, video_ids: Collection[str], removed: Removed | None = None) -> None:
    """Remove the tables, CSVs and working files of some videos, and their sources. `sources` is written.

    removed: is told what is removed.
    """
    store, removed = index.store, removed or Removed()
    for video_id in video_ids:
        for dataset in (*rows.VIDEO_TABLES, "embeddings", "videos"):
            removed.rows[dataset] += _num_rows(store, f"{dataset}/{video_id}.parquet")
        store.delete(f"videos/{video_id}.parquet")
        records.delete_tables(store, video_id)
        traces.delete_work(store, video_id)
        index.videos.pop(video_id, None)
        index.failed.pop(video_id, None)
    for uri in [uri for uri, row in index.sources.items() if row["video_id"] in set(video_ids)]:
        if csv := index.sources[uri]["csv"]:
            store.delete(csv)
        index.drop_source(uri)
        removed.rows["sources"] += 1
    index.save_sources()


def _num_rows(store: Store, name: str) -> int:
    try:
        return tables.num_rows(store, name)
    except (FileNotFoundError, pa.ArrowException, OSError):  # a damaged file is removed all the same
        return 0
