"""The files at a path of this machine and below it.

Links are followed. A link to a folder that contains the link is skipped, because the walk would never end. A folder
that is reached through links inside links is entered once. An entry that cannot be read carries the reason.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from fsspec.utils import glob_translate

from pipeline.storage.places import MAGIC

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or folder in a store.

    path: the path in the store.
    size_bytes: the size of a file. None if unknown, or for a folder.
    etag: changes when the bytes change. None if unknown.
    why_not: the reason why it cannot be read. None if it can.
    is_folder: whether it is a folder.
    """

    path: str
    size_bytes: int | None = None
    etag: str | None = None
    why_not: str | None = None
    is_folder: bool = False

    @property
    def is_unlisted(self) -> bool:
        """Return whether it is a folder that cannot be listed."""
        return self.is_folder and self.why_not is not None


def entry_at(path: str) -> Entry:
    """Return the entry at a path. Raises FileNotFoundError if nothing is there, not even a broken link."""
    try:
        status = os.stat(path)
    except ValueError:  # the path contains a zero byte
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except OSError as error:
        if not os.path.islink(path):
            raise
        return Entry(path=path, why_not=_why_broken(path, error))
    if stat.S_ISDIR(status.st_mode):
        return Entry(path=path, is_folder=True)
    etag = str(status.st_mtime) if status.st_mtime else None
    if not stat.S_ISREG(status.st_mode):
        return Entry(path=path, why_not=f"is {KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file")
    return Entry(path=path, size_bytes=status.st_size, etag=etag)


def walk(top: str, avoided: str, *, max_depth: int | None = None, folders: bool = False) -> Iterator[Entry]:
    """Yield every file below a folder, and every folder that cannot be listed.

    avoided: a folder that is never entered, under any name.
    max_depth: the largest number of names below `top`. None for any.
    folders: whether to yield all folders too.
    """
    yield from _Walk(os.path.realpath(avoided), max_depth, folders).below(top)


def match(pattern: str, avoided: str) -> Iterator[Entry]:
    """Yield the matches of an absolute pattern in the syntax of fsspec: `**` is any number of folders. Raises
    ValueError."""
    at = MAGIC.search(pattern)
    top, _, rest = pattern[: at.start()].rpartition("/") if at else pattern.rpartition("/")
    rest = pattern[len(top) + 1 :]
    matches = re.compile(glob_translate(pattern)).match
    is_deep = "**" in rest
    # A final `**` matches all files and folders below, and the files are enough.
    folders = not pattern.endswith("**")
    for entry in walk(top or "/", avoided, max_depth=None if is_deep else rest.count("/") + 1, folders=folders):
        if entry.is_unlisted or matches(entry.path):
            yield entry


def is_inside(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies below it, through any links. folder: a path without links."""
    return _is_within(os.path.realpath(path), folder)


@dataclass(slots=True)
class _Folder:
    """A folder to list.

    path: the path as it was reached.
    real: the path without links.
    depth: the number of names below the top.
    came_by: the real folders that hold the links that the walk has followed.
    """

    path: str
    real: str
    depth: int
    came_by: tuple[str, ...] = ()


@dataclass(slots=True)
class _Walk:
    avoided: str
    max_depth: int | None
    folders: bool
    linked: set[str] = field(default_factory=set)

    def below(self, top: str) -> Iterator[Entry]:
        came_by = (os.path.realpath(os.path.dirname(top)),) if os.path.islink(top) else ()
        waiting = [_Folder(top, os.path.realpath(top), 0, came_by)]
        while waiting:
            folder = waiting.pop()
            if _is_within(folder.real, self.avoided):
                continue
            try:
                with os.scandir(folder.path) as entries:
                    links = {entry.name: entry.is_symlink() for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                continue  # it was removed after its parent was listed
            except OSError as error:
                yield Entry(path=folder.path, is_folder=True, why_not=f"cannot be listed: {error.strerror}")
                continue
            inner = []
            for name in sorted(links):
                path = f"{folder.path.rstrip('/')}/{name}"
                try:
                    entry = entry_at(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    entry = Entry(path=path, why_not=f"cannot be read: {error.strerror}")
                if entry.is_folder:
                    if self._is_wanted(folder.depth + 1):
                        inner += self._entered(folder, path, name, is_link=links[name])
                    if self.folders:
                        yield entry
                elif not (links[name] and is_inside(path, self.avoided)):
                    yield entry
            waiting += reversed(inner)

    def _is_wanted(self, depth: int) -> bool:
        return self.max_depth is None or depth < self.max_depth

    def _entered(self, above: _Folder, path: str, name: str, *, is_link: bool) -> list[_Folder]:
        """Return the folder at `path` in a list, or an empty list if the walk must not enter it."""
        if not is_link:
            return [_Folder(path, f"{above.real.rstrip('/')}/{name}", above.depth + 1, above.came_by)]
        real = os.path.realpath(path)
        came_by = (*above.came_by, above.real)
        is_loop = any(_is_within(folder, real) for folder in came_by)
        if is_loop or (above.came_by and real in self.linked):
            return []
        self.linked.add(real)
        return [_Folder(path, real, above.depth + 1, came_by)]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _why_broken(path: str, error: OSError) -> str:
    target = os.readlink(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"is a link to {target}, where nothing is"
    return f"is a link to {target}, which cannot be read: {error.strerror}"
