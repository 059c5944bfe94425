"""Sequences of files that follow one another in one camera's stream, and the persons that their files share.

A sequence is linked after its videos are published, from the summaries of their tracklets in the working area. Its
part of the dataset `sequences` is replaced, and no other table changes. That part records the files and
configurations that it was made of. A change of one of them makes the part stale, and nothing else does.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.columns import make_table
from pipeline.config import restored
from pipeline.cores.likeness import WIDE, Likeness, Likenesses
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.sequence import FilePerson, RecordedTime, lay_out, merged, number_sequence
from pipeline.errors import DataError, UserError
from pipeline.storage import records, tables
from pipeline.storage.ledger import summarised, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.text import count
from pipeline.video.likenesses import read_likenesses

REVISION = 1
"""Version of the linking. It rises when the code changes the results of the same files."""
NOTE = "rollcall.sequence"
SCHEMA = rows.DATASETS["sequences"]


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a sequence.

    position: of the file in its sequence.
    listed_at: start time of the file, as given in a list.
    video: its row of `videos` if it is done.
    """

    position: int
    listed_at: datetime | None
    video: Mapping[str, Any] | None

    @property
    def key(self) -> list[Any]:
        """The values on which the rows of a sequence depend."""
        video = self.video or {}
        listed_at = self.listed_at.isoformat() if self.listed_at else None
        return [self.position, video.get("video_id"), video.get("config_id"), listed_at]


@dataclass(frozen=True, slots=True)
class SequenceJob:
    """A sequence to be linked.

    name: of the sequence.
    members: its files in order.
    store: of the output.
    """

    name: str
    members: tuple[Member, ...]
    store: Store


@dataclass(frozen=True, slots=True)
class SequenceStatus:
    """The state of a sequence in an output.

    sequence: its name.
    files: number of its files.
    done: number of files that are done.
    linkable: number of done files with which later files can still be linked.
    persons: number of persons in the last linking. None if these files have not been linked.
    times: origin of the files' times in the last linking. None if there was none.
    """

    sequence: str
    files: int
    done: int
    linkable: int
    persons: int | None
    times: str | None

    def __str__(self) -> str:
        told = f"{self.sequence}: {self.done} of {count(self.files, 'file')} done"
        if self.persons is None:
            told += ", not linked yet"
        else:
            told += f", {count(self.persons, 'person')}, times {self.times}"
        lost = self.done - self.linkable
        return told + (f"; {lost} of {count(self.done, 'file')} can no longer be linked" if lost else "")


def find_work(index: OutputIndex) -> list[SequenceJob]:
    """Return the sequences with a done file in which something has changed since they were linked."""
    return [
        SequenceJob(name, members, index.store)
        for name, members in _members(index).items()
        if _done(members) and not _is_current(_note(index.store, _name(name)), members)
    ]


def link_sequence(job: SequenceJob) -> None:
    """Link the persons of a sequence, under the knobs of its last file, and publish them.

    Raises DataError if the stored data of its files does not suffice. Then its published part is unchanged.
    """
    with tables.damage_is_a_fault():
        identity = _identity(job.store, job.members)
        starts_us, times = lay_out([_span(member) for member in job.members])
        known = _known(job)
        persons: list[FilePerson] = []
        columns: dict[str, list[Any]] = {"position": [], "video_id": [], "person_id": []}
        for file, video, seen in _seen(job, identity, starts_us.tolist()):
            for person_id in range(1, video["num_persons"] + 1):
                number = known.get((video["video_id"], person_id), 0)
                persons.append(FilePerson(file, number, seen.get(person_id)))
                columns["position"].append(job.members[file].position)
                columns["video_id"].append(video["video_id"])
                columns["person_id"].append(person_id)
        numbers = number_sequence(persons, identity, _likenesses(job))
    told = columns | {"sequence": [job.name] * len(persons), "sequence_person_id": numbers}
    note = {"revision": REVISION, "sequence": job.name, "made_of": _made_of(job.members), "times": times.value}
    _write(job.store, _name(job.name), note, make_table(SCHEMA, told))


def link_here(jobs: Sequence[SequenceJob]) -> dict[str, str]:
    """Link one sequence after the other. Return, by name, the reasons why some are not linked."""
    faults = {}
    for job in jobs:
        try:
            link_sequence(job)
        except DataError as fault:
            faults[job.name] = str(fault)
    return faults


def withdraw(store: Store, video_ids: Collection[str]) -> None:
    """Remove the rows of videos that are about to change from all sequences. These sequences are then stale."""
    for name in _names(store):
        note = _note(store, name)
        made_of = note.get("made_of", [])
        kept = [key for key in made_of if key[1] not in video_ids]
        if len(kept) != len(made_of):
            table = tables.read_file(store, name, SCHEMA)
            stays = [video_id not in video_ids for video_id in table["video_id"].to_pylist()]
            _write(store, name, note | {"made_of": kept}, table.filter(pa.array(stays, pa.bool_())))


def drop_ended(index: OutputIndex) -> None:
    """Remove the rows of sequences that no longer have a done file."""
    there = {_name(sequence) for sequence, members in _members(index).items() if _done(members)}
    for name in _names(index.store):
        if name not in there:
            index.store.delete(name)


def close(index: OutputIndex, sequences: Collection[str]) -> None:
    """Delete the summaries that links with later files would need. Videos that are in another sequence, or whose
    biometrics are kept, keep theirs."""
    ids = {name: {video["video_id"] for video in _done(members)} for name, members in _members(index).items()}
    needed = keeping(index).union(*(own for name, own in ids.items() if name not in sequences))
    for video_id in sorted(set().union(*(ids.get(name, set()) for name in sequences)) - needed):
        index.store.delete(summary_name(video_id))


def keeping(index: OutputIndex) -> set[str]:
    """Return the videos whose biometrics are kept on purpose."""
    names = set(index.store.names("embeddings"))
    return {video_id for video_id in index.done() if f"embeddings/{video_id}.parquet" in names}


def sequence_statuses(index: OutputIndex) -> list[SequenceStatus]:
    """Return the state of every sequence."""
    linkable = summarised(index.store)
    found = []
    for sequence, members in _members(index).items():
        note, done = _note(index.store, _name(sequence)), _done(members)
        persons = None
        if _is_current(note, members):
            numbers = tables.read_file(index.store, _name(sequence), SCHEMA)
            persons = len(set(numbers["sequence_person_id"].to_pylist()))
        num_linkable = sum(video["video_id"] in linkable for video in done)
        found.append(SequenceStatus(sequence, len(members), len(done), num_linkable, persons, note.get("times")))
    return found


# --- files and their times -------------------------------------------------------------------------------------------


def _members(index: OutputIndex) -> dict[str, tuple[Member, ...]]:
    """Return the files of every sequence in order. A content that occurs twice counts at its first position."""
    found = {}
    for sequence, sources in index.sequences().items():
        members: dict[str, Member] = {}
        for row in sources:
            video = index.videos.get(row["video_id"])
            done = video if video is not None and video["status"] == "done" else None
            members.setdefault(row["video_id"] or row["uri"], Member(row["position"], row["recorded_at"], done))
        found[sequence] = tuple(members.values())
    return found


def _done(members: Sequence[Member]) -> list[Mapping[str, Any]]:
    return [member.video for member in members if member.video is not None]


def _made_of(members: Sequence[Member]) -> list[Any]:
    return [member.key for member in members]


def _identity(store: Store, members: Sequence[Member]) -> IdentityParams:
    config_id = _done(members)[-1]["config_id"]
    where = store.full(f"recipes/{config_id}.json")
    try:
        recipe = records.read_recipe(store, config_id)
        if recipe is None:
            raise DataError(f"{where} is missing, which says how its last file was made; run `process` on that again")
        return restored(recipe["knobs"], where).identity
    except UserError as error:
        raise DataError(str(error)) from error


def _span(member: Member) -> RecordedTime:
    def microseconds(moment: datetime | None) -> int | None:
        return None if moment is None else round(moment.timestamp() * 1e6)

    video = member.video
    if video is None:
        return RecordedTime(None, None, None)
    return RecordedTime(
        microseconds(member.listed_at), microseconds(video["recorded_at"]), round(video["duration_s"] * 1e6)
    )


# --- persons ---------------------------------------------------------------------------------------------------------


def _seen(
    job: SequenceJob, identity: IdentityParams, starts_us: Sequence[int]
) -> Iterator[tuple[int, Mapping[str, Any], dict[int, Tracklet]]]:
    """Yield, for each done file, its number, its row of `videos`, and its persons' summaries by person_id."""
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
    tables_ = [_told_likenesses(job, video) for video in _done(job.members)]
    return {row["kind"]: row["space"] for table in tables_ for row in table.to_pylist()}


def _likenesses(job: SequenceJob) -> Likenesses:
    """Return the calibrated similarity by kind, pooled over the files of the sequence."""
    spaces = _spaces(job)
    found: dict[str, list[Likeness]] = {}
    for video in _done(job.members):
        table = _told_likenesses(job, video)
        said = read_likenesses(table)
        for row in table.to_pylist():
            if row["space"] == spaces[row["kind"]]:
                found.setdefault(row["kind"], []).append(said[row["kind"]])
    return {**WIDE, **{kind: Likeness.pooled(own) for kind, own in found.items()}}


def _told_likenesses(job: SequenceJob, video: Mapping[str, Any]) -> pa.Table:
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
        )
        parts.setdefault(row["person_id"], []).append((tracklet, row["num_frames"], row["num_faces"]))
    return {person_id: merged(*zip(*own, strict=True)) for person_id, own in parts.items()}


def _read_summary(store: Store, video_id: str) -> list[dict[str, Any]] | None:
    """Return the rows of rows.SUMMARY of a video, by tracklet_id. Return None if they are gone."""
    try:
        return tables.read_file(store, summary_name(video_id), rows.SUMMARY).to_pylist()
    except FileNotFoundError:
        return None


# --- what is published -----------------------------------------------------------------------------------------------


def _known(job: SequenceJob) -> dict[tuple[str, int], int]:
    """Return the numbers that persons got in the last linking, for files that have not changed since."""
    name = _name(job.name)
    if not (made_of := _note(job.store, name).get("made_of")):
        return {}
    before = {(key[1], key[2]) for key in made_of}
    same = {video["video_id"] for video in _done(job.members) if (video["video_id"], video["config_id"]) in before}
    table = tables.read_file(job.store, name, SCHEMA).to_pylist()
    return {(row["video_id"], row["person_id"]): row["sequence_person_id"] for row in table if row["video_id"] in same}


def _is_current(note: Mapping[str, Any], members: Sequence[Member]) -> bool:
    return note.get("revision") == REVISION and note["made_of"] == _made_of(members)


def _note(store: Store, name: str) -> dict[str, Any]:
    """Return the note in the published part of a sequence. Empty if there is none, or none that can be read."""
    try:
        with tables.damage_is_a_fault():
            return json.loads(tables.read_note(store, name, NOTE) or "{}")
    except DataError:
        return {}


def _write(store: Store, name: str, note: Mapping[str, Any], table: pa.Table) -> None:
    schema = SCHEMA.with_metadata((SCHEMA.metadata or {}) | {NOTE.encode(): json.dumps(note).encode()})
    tables.write(store, name, schema, [table])


def _name(sequence: str) -> str:
    return f"sequences/{hashlib.sha256(sequence.encode()).hexdigest()[:20]}.parquet"


def _names(store: Store) -> list[str]:
    return [name for name in store.names("sequences") if name != f"sequences/{tables.SCHEMA_FILE}"]
