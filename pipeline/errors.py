"""Kinds of failure. A failure of the data stays on its row; one of the user or the machine ends with a line or two.

All other exceptions are bugs.
"""

import difflib
import errno
import os
import re
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
"""The remedy for each OSError that comes from the machine and not from a file or a name."""
CARD_IS_FULL = (
    "end other processes that use it, or give it less: lower run.observe.spans or run.observe.workers, then smaller "
    "batches (observe.detector.batch, observe.body.batch, faces.batch). Run the command again: what is finished is kept"
)
MEMORY_IS_FULL = (
    "take smaller batches (observe.detector.batch, observe.body.batch, faces.batch) or a smaller "
    "observe.detector.image_size, or close other programs. Run the command again: what is finished is kept"
)
NO_MEMORY = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|Storage size calculation overflowed|std::bad_alloc"
)
"""What torch says if the machine, and not its graphics card, has too little memory."""
WANTED_BYTES = re.compile(r"tried to allocate (\d+) bytes")
WANTED_SIZE = re.compile(r"Unable to allocate ([\d.]+ [KMGTPE]iB)")
"""How torch and NumPy say how much memory they wanted."""
OF_ANY_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""The errors that prevent every file from being opened, so that the file that was tried is not at fault."""


class DataError(Exception):
    """An input that cannot be processed, even after a retry. The run continues without it."""


class ChangedError(DataError):
    """A file that changed after this run had listed it, as one does that is still being written. It is left to the next
    run, and this one does not try it again."""


class UserError(Exception):
    """An error that a person can correct. The message says what is wrong, where, and the remedy."""


class PassingError(Exception):
    """A failure of a storage place that may be gone later. It says nothing about the input. The message says where and
    how."""


class MachineError(Exception):
    """A failure of the machine or of a storage place in a valid run. The message says where, how, and the remedy."""


class CardError(Exception):
    """A failure after which a graphics card takes no more work from this process, for example an illegal access. The
    process must end, and another one repeats its work."""


class LeaseError(Exception):
    """Another run holds the output, or has taken it over. The message names the run."""


BUG = "Bug"
"""The kind of a failure that nobody foresaw."""


def described_bug(bug: Exception) -> str:
    """Return one line about an error that nobody foresaw, for the user."""
    return f"a bug: {f'{type(bug).__name__}: {bug}'.splitlines()[0]}; please report it"


def raise_of_all(error: Exception) -> None:
    """Raise an error that one video or sequence is not to blame for, because it concerns all of them."""
    if isinstance(error, UserError | MachineError | LeaseError | CardError | MemoryError):
        raise error
    if lack := lack_of(error):
        raise lack from error


def nearest(word: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """Return the end of a message about an unknown word: the nearest known one behind `prefix`, or else `otherwise`."""
    names = {name.casefold(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.casefold(), sorted(names), n=1)
    return f"; did you mean {prefix}{names[near[0]]}?" if near else f"; {otherwise}"


def absent(path: Path, kind: str = "file", otherwise: str = "correct the path") -> UserError:
    """Return the error for a path that does not exist. It states the folder that was searched and the nearest name
    in it."""
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


def lack_of(error: BaseException) -> MachineError | None:
    """Return the MachineError for an error that comes from a full or broken machine, or None for others. Libraries of
    networks have no class for memory that runs out."""
    if isinstance(error, OSError):
        return shortage(error)
    if isinstance(error, MemoryError):
        return _full_memory(str(error))
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "CUDA error: out of memory" in text or "_ALLOC_FAILED" in text:
        return MachineError(f"the graphics card has too little memory ({_start_of(text)}); {CARD_IS_FULL}")
    return _full_memory(text) if NO_MEMORY.search(text) else None


def _full_memory(text: str) -> MachineError:
    """Return the error for memory of the machine that a library did not get. It states how much, if `text` does."""
    wanted = ""
    if size := WANTED_SIZE.search(text):
        wanted = size[1]
    elif number := WANTED_BYTES.search(text):
        wanted = f"{int(number[1]) / 1e9:,.1f} GB" if len(number[1]) > 9 else f"{int(number[1]) / 1e6:,.0f} MB"
    return MachineError(f"there is too little memory{f' for another {wanted}' if wanted else ''}; {MEMORY_IS_FULL}")


def _start_of(text: str) -> str:
    """Return the first sentences of a library's message. Advice for programmers follows them."""
    return ". ".join((text.splitlines() or ["no message"])[0].split(". ")[:3]).rstrip(".")


def shortage(error: OSError, place: str | None = None) -> MachineError | None:
    """Return the MachineError for an OSError, or None if the error concerns only one file or name."""
    remedy = SHORTAGES.get(error.errno or 0)
    if remedy is None:
        return None
    place = place or os.fsdecode(error.filename or "")
    return MachineError(f"{f'{place}: ' if place else ''}{os.strerror(error.errno or 0)}; {remedy}")


def file_in_the_way(place: str) -> UserError | None:
    """Return the error for a place that cannot be a folder because it, or a part of its path, is a file. None if no
    part is."""
    for path in (place, *map(str, Path(place).parents)):
        if os.path.exists(path) and not os.path.isdir(path):
            return UserError(f"{path} is a file where a folder is needed; move it away, or name another place")
    return None


def blame_machine(error: BaseException) -> None:
    """Raise MachineError if a file could not be read because no file can be opened."""
    if isinstance(error, OSError) and error.errno in OF_ANY_FILE and (fault := shortage(error)):
        raise fault from error
