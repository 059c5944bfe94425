"""Kill work between any two lasting changes, as SIGKILL would, and read the output after each of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd

from pipeline.storage.store import Guard, Store

UNFINISHED = ".deed.parquet.0badcafe.partial"


class Killed(BaseException):
    """A simulated SIGKILL. A real one reaches no exception handler, so no handler may write after this one."""


class FragileStore(Store):
    """A store that kills the work at a given change.

    The fatal change is not made, but leaves what a killed process would leave: an unfinished file, or a half-deleted
        tree. From then on every change raises Killed. When pickled, it becomes a Store.

    changes_left: number of lasting changes that are made before the one that kills; None: no limit.
    looks: called after every change.
    """

    def __init__(self, uri: str, changes_left: int | None, looks: Callable[[], None] = lambda: None) -> None:
        super().__init__(uri)
        self.changes_left, self.num_changes = changes_left, 0
        self._looks = looks

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        if self._is_last():
            with super().writing("".join(name.rpartition("/")[:2]) + UNFINISHED) as file:
                file.write(b"PAR1 and no more")
            self._die()
        with super().writing(name) as file:
            yield file
        self._changed()

    def guarded(self, guard: Guard) -> Store:
        self.guard = guard
        return self

    def create(self, name: str, content: bytes) -> str | None:
        if self._is_last():
            self._die()
        etag = super().create(name, content)
        self._changed()
        return etag

    def replace(self, name: str, content: bytes, etag: str) -> str | None:
        if self._is_last():
            self._die()
        new = super().replace(name, content, etag)
        self._changed()
        return new

    def sweep(self, spared: Collection[str] = ()) -> int:
        return 0 if self._is_last() else super().sweep(spared)

    def copy(self, name: str, target: str) -> None:
        if self._is_last():
            self._die()
        super().copy(name, target)
        self._changed()

    def move(self, name: str, target: str) -> None:
        if self._is_last():
            self._die()
        super().move(name, target)
        self._changed()

    def delete(self, name: str) -> None:
        if self._is_last():
            self._die()
        super().delete(name)
        self._changed()

    def delete_tree(self, below: str) -> None:
        if self._is_last():
            for name in self.names(below)[::2]:
                super().delete(name)
            self._die()
        super().delete_tree(below)
        self._changed()

    def _is_last(self) -> bool:
        return self.changes_left is not None and self.num_changes >= self.changes_left

    def _die(self) -> None:
        self.changes_left = 0
        self._looks()
        raise Killed

    def _changed(self) -> None:
        self.num_changes += 1
        self._looks()


def contents(place: Path) -> dict[str, bytes]:
    """Return every file that a user reads."""
    paths = (path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {
        name: path.read_bytes() for path in paths if not (name := path.relative_to(place).as_posix()).startswith("_")
    }


def read_whole(place: Path, video_id: str, publications: Mapping[bytes, Mapping[str, bytes]]) -> None:
    """Fail if `videos` says that a video is done, but its tables are not all from the same one of the
    `publications`.

    publications: all files of the video, by the bytes of the video's file in `videos`.
    """
    row = place / "videos" / f"{video_id}.parquet"
    if not row.exists():
        return
    said = row.read_bytes()
    promised = publications.get(said, {})
    wrong = [name for name in promised if not (place / name).exists() or (place / name).read_bytes() != promised[name]]
    if row.read_bytes() != said:
        return  # it changed while this reader was reading
    assert not wrong, f"a part was seen: {wrong}"
    assert promised or not (pd.read_parquet(row).status == "done").any(), "an unknown publication was seen"
