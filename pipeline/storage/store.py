"""A place where results live: a folder, or anything that fsspec opens. Whatever appears under a name there is whole.

Names are relative, with `/`. Files that are still being written begin with a dot: no reader of a dataset sees them.
"""

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO

from pipeline.errors import GONE, MachineError, UserError, shortage
from pipeline.storage.names import is_sound, same
from pipeline.storage.places import MAGIC, local_path, place, uri_of

READ_BYTES = 4 << 20
"""What is asked of an object store at a time: containers are read in order."""
FOUND_NOTHING = (FileNotFoundError, NotADirectoryError)
MARK_BYTES = 64 << 10
"""An empty file finds room on a disk that is full."""
PARTIAL = ".partial"
PLAIN_PART = re.compile(r"[\w !#$%&'()+,;=@^`{}~.-]*[\w)]")
PLAIN_BYTES = 120
"""Every file system takes such a name."""


class Store:
    """The tree below one URI. Cheap to make and to pickle. Raises MachineError where the place of it fails."""

    def __init__(self, uri: str) -> None:
        path = local_path(uri)
        self.uri = uri.rstrip("/") if path is None else uri_of(path)
        self._fs, self._root = place(self.uri)
        self.is_local = path is not None

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)

    def full(self, name: str) -> str:
        """The URI of `name`, for people and for other libraries."""
        return f"{self.uri}/{name}"

    def check_writable(self) -> None:
        """Write and remove a mark. Raises UserError: no permission, no such bucket, no credentials."""
        mark = f"_work/.writable-{uuid.uuid4().hex}"
        try:
            self.put(mark, bytes(MARK_BYTES))
            self.delete(mark)
        except Exception as error:
            remedy = "free some" if is_full(error) else "check the place and your permissions"
            raise UserError(f"cannot write to {self.uri}: {plain_cause(error)}; {remedy}") from error

    def exists(self, name: str) -> bool:
        with self._reaching():
            return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """The bytes of `name`. Raises FileNotFoundError."""
        with self._reaching():
            return self._fs.cat_file(self._path(name))

    def open(self, name: str) -> BinaryIO:
        with self._reaching():
            return self._fs.open(self._path(name), "rb")  # type: ignore[return-value]

    def put(self, name: str, content: bytes) -> None:
        """Put `content` in place of whatever `name` was, at once."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A local file that becomes `name` when the block ends without an exception, and otherwise nothing."""
        target = Path(self._path(name))
        folder = target.parent if self.is_local else Path(tempfile.gettempdir())
        partial = folder / f".{uuid.uuid4().hex}{PARTIAL}"  # a longer name might be too long
        try:
            with told_shortage(self.uri if self.is_local else str(folder)):
                folder.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
            with self._reaching():
                if self.is_local:
                    _clear_way(target)
                    partial.replace(target)
                else:
                    self._fs.put_file(str(partial), self._path(name))
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def holds(self, part: str) -> bool:
        """Whether a file may be called `part` here, with a suffix. File systems differ in lengths and letters."""
        if not self.is_local or (len(part.encode()) <= PLAIN_BYTES and PLAIN_PART.fullmatch(part)):
            return True
        trial = Path(self._path(f"_work/.names-{uuid.uuid4().hex}"))
        try:
            trial.mkdir(parents=True)
            (trial / f"{part}.csv").touch()
            return [same(name) for name in os.listdir(trial)] == [same(f"{part}.csv")]
        except OSError:
            return False
        finally:
            shutil.rmtree(trial, ignore_errors=True)

    def names(self, below: str, *, hidden: bool = False) -> list[str]:
        """All files below the folder `below`, sorted, relative to the root; none if there is no such folder.

        hidden: also those whose names begin with a dot, but for files on the way.
        """
        self._fs.invalidate_cache()
        with suppress(*FOUND_NOTHING), self._reaching():
            start = len(self._path("")) + 1
            found = (path[start:] for path in self._fs.find(self._path(below)))
            return sorted(name for name in found if _is_shown(name, hidden=hidden) and is_sound(name))
        return []

    def changes(self, below: str) -> list[tuple[str, datetime]]:
        """All files below a folder, and when each was written last (UTC)."""
        return [(name, self._fs.modified(self._path(name)).astimezone(UTC)) for name in self.names(below)]

    def move(self, name: str, target: str) -> None:
        """Put `name` in place of whatever `target` was, at once. Raises FileNotFoundError."""
        with self._reaching():
            if self.is_local:
                Path(self._path(target)).parent.mkdir(parents=True, exist_ok=True)
                Path(self._path(name)).replace(self._path(target))
            else:
                self._fs.cp_file(self._path(name), self._path(target))  # `copy` would take a name for a pattern
                self._fs.rm_file(self._path(name))

    def delete(self, name: str) -> None:
        with suppress(*FOUND_NOTHING), self._reaching():
            self._fs.rm_file(self._path(name))

    def delete_tree(self, below: str) -> None:
        with suppress(*FOUND_NOTHING), self._reaching():
            if self.is_local or not MAGIC.search(self._path(below)):
                self._fs.rm(self._path(below), recursive=True)
            else:  # `rm` would take the name for a pattern, and remove what it matches
                for path in self._fs.find(self._path(below)):
                    self._fs.rm_file(path)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Tell of a disk or an object store that fails; what is not there stays what it is."""
        try:
            with told_shortage(self.uri):
                yield
        except (*FOUND_NOTHING, MachineError):
            raise
        except Exception as error:  # every kind of object store has its own
            if self.is_local:
                raise
            raise MachineError(f"{self.uri}: {plain_cause(error)}; {GONE}") from error

    def _path(self, name: str) -> str:
        """Where `name` is. Nothing that climbs out of the tree is a name here, wherever it comes from."""
        if name and not is_sound(name):
            raise ValueError(f"{name!r} is no name below {self.uri}")
        return f"{self._root}/{name}".rstrip("/")


@contextmanager
def told_shortage(place: str) -> Iterator[None]:
    """Raise MachineError for an OSError that says that the machine is short of something."""
    try:
        yield
    except OSError as error:
        if fault := shortage(error, place):
            raise fault from error
        raise


def _is_shown(name: str, *, hidden: bool) -> bool:
    last = name.rsplit("/", 1)[-1]
    return not last.startswith(".") or (hidden and not last.endswith(PARTIAL))


def _clear_way(target: Path) -> None:
    """Remove the folders that deleted files have left where a file is to be. Files stay."""
    for folder, _, _ in os.walk(target, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)


def opener(uri: str) -> Callable[[], str | BinaryIO]:
    """A function that opens `uri` anew at each call: the path of a local file, else a seekable file object.

    It raises OSError, whatever the kind of store.
    """
    fs, path = place(uri)
    if (local := local_path(uri)) is not None:
        return lambda: local

    def open_remote() -> BinaryIO:
        try:
            return fs.open(path, "rb", cache_type="readahead", block_size=READ_BYTES)
        except Exception as error:  # botocore and aiohttp have their own kinds
            raise OSError(plain_cause(error)) from error

    return open_remote


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota has run out, as far as the last cause of `error` says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def plain_cause(error: BaseException) -> str:
    """The last cause of `error`, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileNotFoundError) and not error.strerror:
        reason = "there is no such file"  # the library gives the name alone
    return (reason or type(error).__name__).splitlines()[0]
