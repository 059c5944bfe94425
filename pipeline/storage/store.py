"""A place for results: a folder, or any other place that fsspec opens. Every file that has its name is complete.

Names are relative and use `/`. Files that are still being written begin with a dot, so that no reader of a dataset
reads them.
"""

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, TypeVar

from pipeline.errors import GONE, DataError, MachineError, PassingError, UserError, file_in_the_way, shortage
from pipeline.storage import objects
from pipeline.storage.conditional import PARTIAL, ConditionalWrites, conditional_writes
from pipeline.storage.faults import FOUND_NOTHING, patiently, plain_cause
from pipeline.storage.local_files import clear_way, details_below
from pipeline.storage.names import is_sound, same
from pipeline.storage.places import MAGIC, local_path, place, uri_of
from pipeline.storage.remote import open_patiently

MARK_BYTES = 64 << 10
"""The size of the mark for a write test. An empty file could still be written to a full disk."""
OPEN_FILES = Path("/proc/self/fd")
VERSIONED_BY = ("ETag", "etag", "md5Hash", "generation", "LastModified", "updated", "mtime", "ino", "created", "size")
"""The details of a file, under the names of the kinds of storage, that show its replacement."""
Item = TypeVar("Item")
Result = TypeVar("Result")
PLAIN_PART = re.compile(r"[\w !#$%&'()+,;=@^`{}~.-]*[\w)]")
PLAIN_BYTES = 120
"""The longest name, in bytes, that every file system takes."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a file as a listing shows it.

    size_bytes: its size.
    version: changes whenever the file is replaced.
    changed: the time of its last change, UTC. None if the place does not tell.
    """

    size_bytes: int
    version: str
    changed: datetime | None = None

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> "Stamp":
        """Return the stamp of a file from the details that fsspec lists."""
        version = " ".join(str(details[key]) for key in VERSIONED_BY if details.get(key))
        return cls(details["size"] or 0, version, details.get("LastModified") or details.get("created"))


class Guard(Protocol):
    """The right to write to an output. It travels with the store to every process of a run (see `lease`).

    strength: `full`, `create-only` or `advisory`.
    swaps: whether a row of `videos` is replaced only if it is still the one that was read.
    note: a text that no other guard has.
    """

    @property
    def strength(self) -> str: ...
    @property
    def swaps(self) -> bool: ...

    @property
    def note(self) -> str: ...

    def for_work(self) -> "Guard":
        """Return the guard for a store whose `videos` nobody reads."""
        ...

    def confirm(self, *, at_once: bool = False) -> None:
        """Raise LeaseError if the right is lost. The answer may be some seconds old, except `at_once`."""
        ...


class Store:
    """The tree below one URI. It is cheap to make and to pickle. Its methods raise MachineError if the place fails.

    guard: is asked before every change. None if nobody else can write there.
    """

    def __init__(self, uri: str, guard: Guard | None = None) -> None:
        if not uri.strip():
            raise UserError("the output is an empty text; name a folder or s3://bucket/prefix (is a variable not set?)")
        path = local_path(uri)
        self.uri = uri.rstrip("/") if path is None else uri_of(path)
        self._fs, self._root = place(self.uri)
        self.is_local = path is not None
        self.guard = guard

    def __reduce__(self) -> tuple[type["Store"], tuple[str, Guard | None]]:
        return Store, (self.uri, self.guard)

    def guarded(self, guard: Guard) -> "Store":
        """Return this store with a guard."""
        return Store(self.uri, guard)

    def full(self, name: str) -> str:
        """Return the URI of `name`, for people and for other libraries."""
        return f"{self.uri}/{name}"

    def check_writable(self) -> None:
        """Write and remove a mark. Raises UserError without permission, bucket, credentials or free space."""
        mark = f"_work/.writable-{uuid.uuid4().hex}"
        try:
            self.put(mark, bytes(MARK_BYTES))
            self.delete(mark)
        except Exception as error:
            if self.is_local and (in_the_way := file_in_the_way(self._root)):
                raise in_the_way from error
            remedy = "free some" if is_full(error) else "check the place and your permissions"
            raise UserError(f"cannot write to {self.uri}: {plain_cause(error)}; {remedy}") from error

    def exists(self, name: str) -> bool:
        """Return whether there is a file `name`."""
        path = self._path(name)
        if not objects.is_s3(self._fs):
            return bool(self._reach(lambda: self._fs.exists(path)))
        try:
            self._reach(lambda: objects.head(self._fs, path))
        except FOUND_NOTHING:
            return False
        return True

    def read(self, name: str) -> bytes:
        """Return the bytes of `name`. Raises FileNotFoundError."""
        # With more connections for one file, s3fs would first ask for its size.
        options = {"max_concurrency": 1} if objects.is_s3(self._fs) else {}
        return self._reach(lambda: self._fs.cat_file(self._path(name), **options))

    def open(self, name: str) -> BinaryIO:
        """Open `name` for reading. Raises FileNotFoundError, here or, on an object store, at the first read."""
        path = self._path(name)
        if self.is_local:
            return self._reach(lambda: self._fs.open(path, "rb"))
        return self._reach(lambda: open_patiently(self._fs, path, self.uri))

    def put(self, name: str, content: bytes) -> None:
        """Replace `name`, if it exists, with `content` in one step."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a local file that becomes `name` if the block ends without an exception, and is removed otherwise."""
        path = self._path(name)
        target = Path(path)
        if not self.is_local:
            with _temporary() as (file, partial):
                yield file
                self._confirm()
                self._reach(lambda: self._fs.put_file(partial(), path))
            return
        partial = target.parent / f".{uuid.uuid4().hex}{PARTIAL}"  # a name with more text might be too long
        try:
            with shortage_is_an_error(self.uri):
                target.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
            self._confirm()
            self._reach(lambda: (clear_way(target), partial.replace(target)))
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> str | None:
        """Write `name`, which must not exist, and return its etag. Return None if it exists.

        Raises NoConditionsError if the store cannot do this. Some stores cannot and do not say so.
        """
        self._confirm()
        return self._reach(lambda: self._conditional.create(self._path(name), content))

    def replace(self, name: str, content: bytes, etag: str) -> str | None:
        """Replace `name`, which must have this etag, and return its new etag. Return None if it has another or is
        gone. Raises NoConditionsError as `create` does."""
        self._confirm()
        return self._reach(lambda: self._conditional.replace(self._path(name), content, etag))

    def read_with_etag(self, name: str) -> tuple[bytes, str]:
        """Return the bytes of `name`, and the etag that `replace` needs. Raises FileNotFoundError."""
        return self._reach(lambda: self._conditional.read(self._path(name)))

    @property
    def _conditional(self) -> ConditionalWrites:
        return conditional_writes(self._fs, self._root, is_local=self.is_local)

    def _confirm(self) -> None:
        if self.guard is not None:
            self.guard.confirm()

    def sweep(self, spared: Collection[str] = ()) -> int:
        """Remove the files that killed processes were writing, which may hold embeddings. Return how many.

        Only a folder of this machine can hold such files, because temporary files have no name where the system
        allows that. Nobody else may be writing, except below the folders `spared`.
        """
        count = 0
        for folder, folders, files in os.walk(self._root) if self.is_local else ():
            if folder == self._root:
                folders[:] = [name for name in folders if name not in spared]
            for name in files:
                if name.startswith(".") and name.endswith(PARTIAL):
                    with suppress(OSError):
                        os.unlink(os.path.join(folder, name))
                        count += 1
        return count

    def holds(self, part: str) -> bool:
        """Return whether a file named `part` with a suffix can exist here. File systems differ in lengths and
        characters."""
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
        """Return all files below the folder `below`, sorted, relative to the root. Empty if the folder does not
        exist.

        hidden: whether to include names that begin with a dot, except files that are being written.
        """
        return [name for name in self._find(below) if _is_shown(name, hidden=hidden)]

    def folders(self, below: str) -> list[str]:
        """Return the names of the folders in the folder `below`, sorted. Empty if it does not exist."""
        self._fs.invalidate_cache()
        with suppress(*FOUND_NOTHING):
            entries = self._reach(lambda: self._fs.ls(self._path(below), detail=True))
            names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")
            return sorted(name for name in names if is_sound(name))
        return []

    def stamps(self, below: str) -> dict[str, Stamp]:
        """Return name -> stamp, which changes when a file does, for each file that `names` returns. One listing is
        enough."""
        details = self._find(below)
        return {name: Stamp.of(details[name]) for name in details if _is_shown(name, hidden=False)}

    def _find(self, below: str) -> dict[str, dict[str, Any]]:
        """Return all files below a folder, sorted by name, with the details that fsspec lists."""
        path, start = self._path(below), len(self._path("")) + 1
        details = {}
        with suppress(*FOUND_NOTHING):
            if objects.is_s3(self._fs):
                details = objects.find(self._fs, path, self._reach)
            else:
                self._fs.invalidate_cache()
                details = self._reach(
                    lambda: details_below(path) if self.is_local else self._fs.find(path, detail=True)
                )
        return {name: details[path] for path in sorted(details) if is_sound(name := path[start:])}

    def copy(self, name: str, target: str) -> None:
        """Make `target` a copy of `name`, which must never change in place. On a disk, both are one file."""
        path, goal = self._path(name), self._path(target)
        self._confirm()
        if not self.is_local:
            self._reach(lambda: self._fs.cp_file(path, goal))
            return
        Path(goal).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, goal)
        except OSError:  # not every file system has hard links
            with open(path, "rb") as source, self.writing(target) as file:
                shutil.copyfileobj(source, file)

    def move(self, name: str, target: str) -> None:
        """Move `name` to `target` in one step, and replace what was there. Raises FileNotFoundError."""
        path, goal = self._path(name), self._path(target)
        self._confirm()
        if self.is_local:
            self._reach(lambda: (Path(goal).parent.mkdir(parents=True, exist_ok=True), Path(path).replace(goal)))
        else:
            self._reach(lambda: self._fs.cp_file(path, goal))  # `copy` would read a name as a pattern
            self.delete(name)

    def delete(self, name: str) -> None:
        """Remove the file `name`, if it exists."""
        self._confirm()
        with suppress(*FOUND_NOTHING):
            self._reach(lambda: self._fs.rm_file(self._path(name)))

    def delete_tree(self, below: str) -> None:
        """Remove the folder `below` with all its files, if it exists."""
        self._confirm()
        if self.is_local:
            with suppress(*FOUND_NOTHING):
                self._reach(lambda: self._fs.rm(self._path(below), recursive=True))
            return
        names = self.names(below, hidden=True)
        paths = [self._path(name) for name in names]
        plain = [path for path in paths if not MAGIC.search(path)]  # `rm` reads other names as patterns
        if plain:
            with suppress(*FOUND_NOTHING):
                self._reach(lambda: self._fs.rm(plain))
        for name in set(names) - {path.removeprefix(f"{self._root}/") for path in plain}:
            self.delete(name)

    def _reach(self, action: Callable[[], Any]) -> Any:
        """Return the result of `action`, which is repeated on an object store while that fails in a way that may pass.

        Errors for missing files are passed on unchanged. All others are PassingError, UserError or MachineError.
        """
        if self.is_local:
            with shortage_is_an_error(self.uri):
                return action()
        try:
            return patiently(action, self.uri)
        except (*FOUND_NOTHING, PassingError, UserError, MachineError):
            raise
        except PermissionError as error:
            raise UserError(f"{self.uri}: {plain_cause(error)}; ask for permission to read and write there") from error
        except DataError as error:  # a concurrent writer has replaced the object
            raise PassingError(f"{self.uri}: {error}") from error
        except Exception as error:  # every kind of object store has its own exceptions
            raise MachineError(f"{self.uri}: {plain_cause(error)}; {GONE}") from error

    def _path(self, name: str) -> str:
        """Return the path of `name`. Raises ValueError for a name that leads out of the tree, whatever its origin."""
        if name and not is_sound(name):
            raise ValueError(f"{name!r} is no name below {self.uri}")
        return f"{self._root}/{name}".rstrip("/")


def side_by_side(store: Store, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the result of `function` for each item, in order. Requests to an object store wait at the same time."""
    if store.is_local:
        return [function(item) for item in items]
    return objects.in_threads(function, items)


@contextmanager
def _temporary() -> Iterator[tuple[IO[bytes], Callable[[], str]]]:
    """Yield a temporary file, and a function that returns a path to it once it is written.

    Where the system can open a file without a name, it has none, so that a killed process leaves nothing behind.
    """
    folder = tempfile.gettempdir()
    is_nameless = OPEN_FILES.is_dir()
    with (
        shortage_is_an_error(folder),
        tempfile.TemporaryFile() if is_nameless else tempfile.NamedTemporaryFile() as file,
    ):

        def written() -> str:
            with shortage_is_an_error(folder):
                file.flush()
                os.fsync(file.fileno())
            return str(OPEN_FILES / str(file.fileno())) if is_nameless else file.name

        yield file, written


@contextmanager
def shortage_is_an_error(place: str) -> Iterator[None]:
    """Raise MachineError for an OSError that means that the machine lacks a resource."""
    try:
        yield
    except OSError as error:
        if fault := shortage(error, place):
            raise fault from error
        raise


def _is_shown(name: str, *, hidden: bool) -> bool:
    last = name.rsplit("/", 1)[-1]
    return not last.startswith(".") or (hidden and not last.endswith(PARTIAL))


def is_full(error: BaseException) -> bool:
    """Return whether the last cause of `error` is a full disk or an exhausted quota."""
    while error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
