"""Link the persons of the files of a sequence, from the summaries of their tracklets in the working area."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.columns import integers, make_table
from pipeline.config import restored
from pipeline.cores.likeness import WIDE, Likeness, Likenesses
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.sequence import FilePerson, RecordedTime, lay_out, merged, number_sequence
from pipeline.errors import DataError, UserError
from pipeline.storage import records, tables
from pipeline.storage.ledger import summary_name
from pipeline.storage.store import Store
from pipeline.video.likenesses import read_likenesses
from pipeline.video.sequences import (
    REVISION,
    SCHEMA,
    Member,
    SequenceJob,
    done_videos,
    key_of_members,
    part_name,
    read_note,
    write_part,
)


def link_sequence(job: SequenceJob) -> None:
    """Link the persons of a sequence, under the knobs of its last file, and publish them.

    Raises DataError if the stored data of its files does not suffice. Then its published part is unchanged.
    """
    with tables.damage_is_a_fault():
        identity = _identity(job.store, job.members)
        starts_us, times = lay_out([_recorded_time(member) for member in job.members])
        known = _known(job)
        persons: list[FilePerson] = []
        columns: dict[str, list[Any]] = {"position": [], "video_id": [], "person_id": []}
        for file, video, summaries in _summaries_of_files(job, identity, starts_us.tolist()):
            for person_id in _person_ids(job.store, video["video_id"]):
                number = known.get((video["video_id"], person_id), 0)
                persons.append(FilePerson(file, number, summaries.get(person_id)))
                columns["position"].append(job.members[file].position)
                columns["video_id"].append(video["video_id"])
                columns["person_id"].append(person_id)
        numbers = number_sequence(persons, identity, _likenesses(job))
    table = columns | {"sequence": [job.name] * len(persons), "sequence_person_id": numbers}
    note = {"revision": REVISION, "sequence": job.name, "made_of": key_of_members(job.members), "times": times.value}
    write_part(job.store, part_name(job.name), note, make_table(SCHEMA, table))


def _identity(store: Store, members: Sequence[Member]) -> IdentityParams:
    config_id = done_videos(members)[-1]["config_id"]
    where = store.full(f"recipes/{config_id}.json")
    try:
        recipe = records.read_recipe(store, config_id)
        if recipe is None:
            raise DataError(f"{where} is missing, which says how its last file was made; run `process` on that again")
        return restored(recipe["knobs"], where).identity
    except UserError as error:
        raise DataError(str(error)) from error


def _recorded_time(member: Member) -> RecordedTime:
    def microseconds(moment: datetime | None) -> int | None:
        return None if moment is None else round(moment.timestamp() * 1e6)

    video = member.video
    if video is None:
        return RecordedTime(None, None, None)
    return RecordedTime(
        microseconds(member.listed_at), microseconds(video["recorded_at"]), round(video["duration_s"] * 1e6)
    )


def _summaries_of_files(
    job: SequenceJob, identity: IdentityParams, starts_us: Sequence[int]
) -> Iterator[tuple[int, Mapping[str, Any], dict[int, Tracklet]]]:
    """Yield, for each done file, its index in the sequence, its row of `videos`, and its persons' summaries by
    person_id."""
    summaries = {
        file: _read_summary(job.store, member.video["video_id"])
        for file, member in enumerate(job.members)
        if member.video is not None
    }
    spaces = _spaces(job)
    shot, size, end_us = 0, None, 0
    for file, member in enumerate(job.members):
        video = member.video
        if video is None:
            size = None
            continue
        # No motion continues over a missing file, over a long pause, or into a picture of another size.
        is_far = starts_us[file] - end_us > identity.max_gap_s * 1e6
        shot += is_far or size != (video["width"], video["height"])
        size, end_us = (video["width"], video["height"]), starts_us[file] + round(video["duration_s"] * 1e6)
        yield file, video, _persons(job.store, video, summaries[file], file, shot, starts_us[file] * 1000, spaces)
        shot += video["num_shots"] - 1


def _spaces(job: SequenceJob) -> dict[str, str]:
    """Return the embedding space by kind. Vectors of two spaces are never compared, and the spaces of the last file
    count."""
    tables_ = [_likeness_rows(job, video) for video in done_videos(job.members)]
    return {row["kind"]: row["space"] for table in tables_ for row in table.to_pylist()}


def _likenesses(job: SequenceJob) -> Likenesses:
    """Return the calibrated similarity by kind, pooled over the files of the sequence."""
    spaces = _spaces(job)
    by_kind: dict[str, list[Likeness]] = {}
    for video in done_videos(job.members):
        table = _likeness_rows(job, video)
        stored = read_likenesses(table)
        for row in table.to_pylist():
            if row["space"] == spaces[row["kind"]]:
                by_kind.setdefault(row["kind"], []).append(stored[row["kind"]])
    return {**WIDE, **{kind: Likeness.pooled(likenesses) for kind, likenesses in by_kind.items()}}


def _likeness_rows(job: SequenceJob, video: Mapping[str, Any]) -> pa.Table:
    return tables.read_one(job.store, "likenesses", video["video_id"])


def _persons(
    store: Store,
    video: Mapping[str, Any],
    summary: Sequence[Mapping[str, Any]] | None,
    file: int,
    first_shot: int,
    start_ns: int,
    spaces: Mapping[str, str],
) -> dict[int, Tracklet]:
    """Return the merged summaries by person_id. Empty if the summaries of the file are gone."""
    if summary is None:
        return {}
    columns = ["person_id", "shot", "num_frames", "num_faces"]
    table = tables.read_one(store, "tracklets", video["video_id"], columns).to_pylist()
    parts: dict[int, list[tuple[Tracklet, int, int]]] = {}
    for row, known in zip(table, summary, strict=True):
        vectors = {
            kind: np.array(known[kind], np.float32)
            if known[kind] is not None and known[f"{kind}_space"] == spaces.get(kind)
            else None
            for kind in ("body", "face")
        }
        tracklet = Tracklet(
            shot=first_shot + row["shot"] - 1,
            intervals=np.array([[file, file + 1]], np.int64),
            head_ns=np.array(known["head_ns"], np.int64) + start_ns,
            head_boxes=np.array(known["head_boxes"], np.float32),
            tail_ns=np.array(known["tail_ns"], np.int64) + start_ns,
            tail_boxes=np.array(known["tail_boxes"], np.float32),
            body=vectors["body"],
            face=vectors["face"],
            first_box=np.array(known["head_boxes"][0], np.float32),
            mean_box=np.zeros(4),  # not used, because persons of one file are different people
            cut_off=(bool(known["head_cut_off"]), bool(known["tail_cut_off"])),
        )
        parts.setdefault(row["person_id"], []).append((tracklet, row["num_frames"], row["num_faces"]))
    return {person_id: merged(*zip(*summaries, strict=True)) for person_id, summaries in parts.items()}


def _person_ids(store: Store, video_id: str) -> list[int]:
    return integers(tables.read_one(store, "persons", video_id, ["person_id"]), "person_id").tolist()


def _read_summary(store: Store, video_id: str) -> list[dict[str, Any]] | None:
    """Return the rows of rows.SUMMARY of a video, by tracklet_id. Return None if they are gone."""
    try:
        return tables.read_file(store, summary_name(video_id), rows.SUMMARY).to_pylist()
    except FileNotFoundError:
        return None


def _known(job: SequenceJob) -> dict[tuple[str, int], int]:
    """Return the numbers that persons got in the last linking, for files that have not changed since."""
    name = part_name(job.name)
    if not (made_of := read_note(job.store, name).get("made_of")):
        return {}
    before = {(key[1], key[2]) for key in made_of}
    same = {
        video["video_id"] for video in done_videos(job.members) if (video["video_id"], video["config_id"]) in before
    }
    table = tables.read_file(job.store, name, SCHEMA).to_pylist()
    return {(row["video_id"], row["person_id"]): row["sequence_person_id"] for row in table if row["video_id"] in same}
