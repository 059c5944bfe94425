"""Kinds of failure: the data's (stays on its row), the user's, the machine's (a line or two); the rest are bugs."""

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

OPEN_FILES = "raise the limit (`ulimit -n 4096`), or close other programs"
FULL = "free some, and run the same command again: what is finished is kept"
GONE = "check the disk or the connection, and run the same command again: what is finished is kept"
SHORTAGES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "the file system or `ulimit -f` allows no file so large",
    errno.EROFS: "make the place writable, and run the same command again: what is finished is kept",
    errno.EMFILE: OPEN_FILES,
    errno.ENFILE: OPEN_FILES,
    errno.ENOMEM: "close other programs, and run the same command again: what is finished is kept",
    errno.EIO: GONE,
    errno.ENODEV: GONE,
    errno.ENXIO: GONE,
    errno.ENOTCONN: GONE,
    errno.ESTALE: GONE,
}
"""What a person can do about an OSError that is the machine's fault and not that of a file or a name."""
OF_ANY_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""No file can be opened: it says nothing against the one that was tried."""


class DataError(Exception):
    """This input cannot be processed, and retrying will not help. The run goes on without it."""


class UserError(Exception):
    """A person can put this right: the message says what is wrong, where, and the remedy."""


class MachineError(Exception):
    """The machine or a place of storage fails a run that is in order: the message says where, how, and the remedy."""


def nearest(word: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """The end of a message about a word that is not known: the nearest one that is, behind `prefix`, or `otherwise`."""
    names = {name.casefold(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.casefold(), sorted(names), n=1)
    return f"; did you mean {prefix}{names[near[0]]}?" if near else f"; {otherwise}"


def absent(path: Path, kind: str = "file", otherwise: str = "correct the path") -> UserError:
    """The error of a path that leads nowhere: where was looked, and the nearest name there."""
    where = "" if path.is_absolute() else f" in {Path.cwd()}"
    gone = [parent for parent in path.parents if not parent.is_dir()]
    if gone:
        return UserError(f"there is no {kind} {path}{where}: there is no folder {gone[-1]}; {otherwise}")
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        names = []
    prefix = "" if path.parent == Path() else f"{str(path.parent).rstrip('/')}/"
    return UserError(f"there is no {kind} {path}{where}{nearest(path.name, names, otherwise, prefix)}")


def shortage(error: OSError, place: str | None = None) -> MachineError | None:
    """Return the MachineError that an OSError amounts to, None if it is about one file or name alone."""
    remedy = SHORTAGES.get(error.errno or 0)
    if remedy is None:
        return None
    place = place or os.fsdecode(error.filename or "")
    return MachineError(f"{f'{place}: ' if place else ''}{os.strerror(error.errno or 0)}; {remedy}")


def blame_machine(error: BaseException) -> None:
    """Raise MachineError if a file could not be read because no file can be."""
    if isinstance(error, OSError) and error.errno in OF_ANY_FILE and (fault := shortage(error)):
        raise fault from error
