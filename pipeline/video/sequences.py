"""Sequences of files that follow one another in one camera's stream, and the state of each in an output.

A sequence is linked after its videos are published (sequence_link). Its part of the dataset `sequences` is replaced,
and no other table changes. That part records the files and configurations that it was made of. A change of one of
them makes the part stale, and nothing else does.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.errors import DataError
from pipeline.storage import tables
from pipeline.storage.ledger import SUMMARIES, summarised, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store, side_by_side
from pipeline.text import count

REVISION = 2
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
        text = f"{self.sequence}: {self.done} of {count(self.files, 'file')} done"
        if self.persons is None:
            text += ", not linked yet"
        else:
            text += f", {count(self.persons, 'person')}, times {self.times}"
        lost = self.done - self.linkable
        return text + (f"; {lost} of {count(self.done, 'file')} can no longer be linked" if lost else "")


def find_work(index: OutputIndex) -> list[SequenceJob]:
    """Return the sequences with a done file in which something has changed since they were linked."""
    begun = {name: members for name, members in _members(index).items() if done_videos(members)}
    notes = _notes(index.store, [part_name(name) for name in begun])
    return [
        SequenceJob(name, members, index.store)
        for name, members in begun.items()
        if not _is_current(notes[part_name(name)], members)
    ]


def withdraw(store: Store, video_ids: Collection[str]) -> None:
    """Remove the rows of videos that are about to change from all sequences. These sequences are then stale."""
    for name, note in _notes(store, _names(store)).items():
        made_of = note.get("made_of", [])
        kept = [key for key in made_of if key[1] not in video_ids]
        if len(kept) != len(made_of):
            table = tables.read_file(store, name, SCHEMA)
            stays = [video_id not in video_ids for video_id in table["video_id"].to_pylist()]
            write_part(store, name, note | {"made_of": kept}, table.filter(pa.array(stays, pa.bool_())))


def spread(store: Store, persons: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return some persons, as (video_id, person_id), with all persons who are the same in a sequence."""
    table = tables.read(store, "sequences").to_pylist()
    numbers = {
        (row["sequence"], row["sequence_person_id"]) for row in table if (row["video_id"], row["person_id"]) in persons
    }
    same = {
        (row["video_id"], row["person_id"]) for row in table if (row["sequence"], row["sequence_person_id"]) in numbers
    }
    return same | set(persons)


def remove(store: Store, persons: Collection[tuple[str, int]], video_ids: Collection[str]) -> int:
    """Remove the rows of some persons and of some videos, and return their number. All other persons keep their
    numbers, and no sequence is stale afterwards."""
    num_removed = 0
    for name, note in _notes(store, _names(store)).items():
        table = tables.read_file(store, name, SCHEMA)
        stays = [
            row["video_id"] not in video_ids and (row["video_id"], row["person_id"]) not in persons
            for row in table.to_pylist()
        ]
        made_of = [key for key in note.get("made_of", []) if key[1] not in video_ids]
        if not made_of:
            store.delete(name)
        elif not all(stays) or made_of != note["made_of"]:
            write_part(store, name, note | {"made_of": made_of}, table.filter(pa.array(stays, pa.bool_())))
        num_removed += stays.count(False)
    return num_removed


def drop_ended(index: OutputIndex) -> None:
    """Remove the rows of sequences that no longer have a done file."""
    there = {part_name(sequence) for sequence, members in _members(index).items() if done_videos(members)}
    for name in _names(index.store):
        if name not in there:
            index.store.delete(name)


def close(index: OutputIndex, sequences: Collection[str]) -> None:
    """Delete the summaries that links with later files would need. Videos that are in another sequence, or whose
    biometrics are kept, keep theirs."""
    ids = {name: {video["video_id"] for video in done_videos(members)} for name, members in _members(index).items()}
    needed = keeping(index).union(*(videos for name, videos in ids.items() if name not in sequences))
    for video_id in sorted(set().union(*(ids.get(name, set()) for name in sequences)) - needed):
        index.store.delete(summary_name(video_id))


def keeping(index: OutputIndex) -> set[str]:
    """Return the videos whose biometrics are kept on purpose."""
    names = set(index.store.names("embeddings"))
    return {video_id for video_id in index.done() if f"embeddings/{video_id}.parquet" in names}


def sequence_statuses(index: OutputIndex, work_names: Iterable[str] | None = None) -> list[SequenceStatus]:
    """Return the state of every sequence.

    work_names: the files of the working area, if they have just been listed.
    """
    members_of = _members(index)
    if not members_of:
        return []
    linkable = summarised(index.store.names(SUMMARIES) if work_names is None else work_names)
    notes = _notes(index.store, [part_name(sequence) for sequence in members_of])
    statuses = []
    for sequence, members in members_of.items():
        note, done = notes[part_name(sequence)], done_videos(members)
        persons = None
        if _is_current(note, members):
            numbers = tables.read_file(index.store, part_name(sequence), SCHEMA)
            persons = len(set(numbers["sequence_person_id"].to_pylist()))
        num_linkable = sum(video["video_id"] in linkable for video in done)
        statuses.append(SequenceStatus(sequence, len(members), len(done), num_linkable, persons, note.get("times")))
    return statuses


def _members(index: OutputIndex) -> dict[str, tuple[Member, ...]]:
    """Return the files of every sequence in order. A content that occurs twice counts at its first position."""
    by_sequence = {}
    for sequence, sources in index.sequences().items():
        members: dict[str, Member] = {}
        for row in sources:
            video = index.videos.get(row["video_id"])
            done = video if video is not None and video["status"] == "done" else None
            members.setdefault(row["video_id"] or row["uri"], Member(row["position"], row["recorded_at"], done))
        by_sequence[sequence] = tuple(members.values())
    return by_sequence


def done_videos(members: Sequence[Member]) -> list[Mapping[str, Any]]:
    return [member.video for member in members if member.video is not None]


def key_of_members(members: Sequence[Member]) -> list[Any]:
    return [member.key for member in members]


def _is_current(note: Mapping[str, Any], members: Sequence[Member]) -> bool:
    return note.get("revision") == REVISION and note["made_of"] == key_of_members(members)


def read_note(store: Store, name: str) -> dict[str, Any]:
    """Return the note in the published part of a sequence. Empty if there is none, or none that can be read."""
    try:
        with tables.damage_is_a_fault():
            return json.loads(tables.read_note(store, name, NOTE) or "{}")
    except DataError:
        return {}


def _notes(store: Store, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the note in each of these published parts, as read_note does."""
    return dict(zip(names, side_by_side(store, lambda name: read_note(store, name), names), strict=True))


def write_part(store: Store, name: str, note: Mapping[str, Any], table: pa.Table) -> None:
    schema = SCHEMA.with_metadata((SCHEMA.metadata or {}) | {NOTE.encode(): json.dumps(note).encode()})
    tables.write(store, name, schema, [table])


def part_name(sequence: str) -> str:
    return f"sequences/{hashlib.sha256(sequence.encode()).hexdigest()[:20]}.parquet"


def _names(store: Store) -> list[str]:
    return [name for name in store.names("sequences") if name != f"sequences/{tables.SCHEMA_FILE}"]
