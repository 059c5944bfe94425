"""Tombstones: what an output must not hold again. They hold no biometrics, no estimate and no name.

    _forgotten/videos/VIDEO.json       the video is not processed again
    _forgotten/persons/VIDEO.json      where forgotten persons of the video were in the picture, and in which frames
    _forgotten/unfinished/VIDEO.json   the removal has begun; the next command that writes to the output finishes it

A tombstone that is deleted by hand lets the video or the person in again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from pipeline.cores.forgotten import Path
from pipeline.errors import UserError
from pipeline.storage.store import Store

FOLDER = "_forgotten"
VIDEOS, PERSONS, UNFINISHED = (f"{FOLDER}/{name}" for name in ("videos", "persons", "unfinished"))
Forgotten = tuple[tuple[Path, ...], ...]
"""The paths of each forgotten person of a video."""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The tombstones of an output, by their names.

    videos: ids of the forgotten videos.
    persons: ids of the videos with forgotten persons.
    unfinished: ids of the videos from which something is still to be removed.
    """

    videos: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()

    @classmethod
    def of(cls, store: Store) -> Self:
        """Return the tombstones of an output. This takes one listing."""
        names = store.names(FOLDER)
        return cls(*(frozenset(_ids(names, folder)) for folder in (VIDEOS, PERSONS, UNFINISHED)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What is to be removed of a video.

    video_id: id of the content.
    is_whole: whether the video is forgotten, rather than some persons of it.
    person_ids, tracklet_ids: of the forgotten persons, in the published tables.
    forgotten: the places of these persons.
    """

    video_id: str
    is_whole: bool = False
    person_ids: frozenset[int] = frozenset()
    tracklet_ids: frozenset[int] = frozenset()
    forgotten: Forgotten = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the removal as `begin` stores it."""
        return {
            "whole": self.is_whole,
            "person_ids": sorted(self.person_ids),
            "tracklet_ids": sorted(self.tracklet_ids),
            "persons": _to_json(self.forgotten),
        }

    @classmethod
    def from_json(cls, video_id: str, stored: dict[str, Any]) -> Self:
        """Return the removal that `to_json` made."""
        return cls(
            video_id=video_id,
            is_whole=stored["whole"],
            person_ids=frozenset(stored["person_ids"]),
            tracklet_ids=frozenset(stored["tracklet_ids"]),
            forgotten=_from_json(stored["persons"]),
        )


def begin(store: Store, removals: Sequence[Removal]) -> None:
    """Write down what is to be removed, so that it is finished even if this process is killed."""
    for removal in removals:
        store.put(_name(UNFINISHED, removal.video_id), json.dumps(removal.to_json()).encode())


def read_unfinished(store: Store) -> list[Removal]:
    """Return what is still to be removed, in order of video_id."""
    ids = sorted(Tombstones.of(store).unfinished)
    return [Removal.from_json(video_id, _read(store, _name(UNFINISHED, video_id))) for video_id in ids]


def end(store: Store, video_id: str) -> None:
    """Note that everything is removed."""
    store.delete(_name(UNFINISHED, video_id))


def raise_tombstone(store: Store, removal: Removal) -> None:
    """Write the tombstone of a removal. A repeated call adds nothing."""
    if removal.is_whole:
        store.delete(_name(PERSONS, removal.video_id))
        stored: dict[str, Any] = {"forgotten_at": _today()}
        if not store.exists(name := _name(VIDEOS, removal.video_id)):
            store.put(name, json.dumps(stored).encode())
        return
    name, before = _name(PERSONS, removal.video_id), []
    if store.exists(name):
        before = _read(store, name)["persons"]
    new = [person for person in _to_json(removal.forgotten) if person not in before]
    if new:
        store.put(name, json.dumps({"forgotten_at": _today(), "persons": [*before, *new]}).encode())


def read_forgotten(store: Store, video_id: str) -> Forgotten:
    """Return the places of the forgotten persons of a video. Empty if there are none."""
    try:
        return _from_json(_read(store, _name(PERSONS, video_id))["persons"])
    except FileNotFoundError:
        return ()


def _to_json(forgotten: Forgotten) -> list[list[dict[str, Any]]]:
    return [[path.to_json() for path in paths] for paths in forgotten]


def _from_json(stored: Iterable[Iterable[dict[str, Any]]]) -> Forgotten:
    return tuple(tuple(Path.from_json(path) for path in paths) for paths in stored)


def _read(store: Store, name: str) -> dict[str, Any]:
    content = store.read(name)
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(
            f"{store.full(name)} is no JSON ({error}); without it a forgotten person could come back: restore it, or "
            f"forget the whole video"
        ) from None


def _name(folder: str, video_id: str) -> str:
    return f"{folder}/{video_id}.json"


def _ids(names: Iterable[str], folder: str) -> list[str]:
    return [name.rpartition("/")[2].removesuffix(".json") for name in names if name.startswith(f"{folder}/")]


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"
