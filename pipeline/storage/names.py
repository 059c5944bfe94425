"""Names of the files of an output. Each name of a source becomes a name that every store can hold.

Contract:
- A name stays below its folder and is UTF-8.
- No part is longer than file systems allow.
- No two names in a folder are equal to a file system that ignores case, the form of accents, or dots and spaces at
  the end.
- No name is both a file and a folder.
- The plain name of a source is kept unchanged.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from urllib.parse import quote

from pipeline.text import storable

MAX_PART_BYTES = 240
"""The most bytes in one part of a name. Nearly all file systems allow 255; the rest leaves room for `.2.csv`."""
MAX_BYTES = 700
"""The most bytes in a whole name below its folder. Object stores allow 1024 for a key with its prefix."""
PORTABLE_BYTES = 120
PORTABLE = " !#$&'()+,;=@[]^`{}"
"""The characters that every file system takes, besides letters, digits and `_.-~`."""


class Names:
    """The names in one folder of an output.

    given: the names that are already in use.
    holds: returns whether the file system of the output takes a part of a name.
    """

    def __init__(self, given: Iterable[str] = (), holds: Callable[[str], bool] = lambda _: True) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._next: dict[str, int] = defaultdict(lambda: 1)
        self._holds = holds
        for name in given:
            self._enter(name)

    def give(self, wanted: str, suffix: str) -> str:
        """Return a safe name from `wanted` + `suffix`: escaped or shortened if needed, numbered if taken. It is
        then in use."""
        *folders, last = _parts(wanted, self._holds)
        path = ""
        for folder in folders:
            path += self._free(path, folder, "", lambda key: key not in self._files) + "/"
        name = path + self._free(path, last, suffix, lambda key: key not in self._files and key not in self._folders)
        self._enter(name)
        return name

    def _free(self, above: str, wanted: str, suffix: str, is_free: Callable[[str], bool]) -> str:
        key = f"{same(above + wanted)}{suffix}"
        for number in range(self._next[key], len(self._files) + len(self._folders) + 3):
            name = f"{wanted}{f'.{number}' if number > 1 else ''}{suffix}"
            if is_free(same(above + name)):
                if suffix:  # many files can share one wanted name in lists; files of one folder share the folder
                    self._next[key] = number
                return name
        raise AssertionError("there are more names than files")

    def _enter(self, name: str) -> None:
        key = same(name)
        self._files.add(key)
        while key := key.rpartition("/")[0]:
            self._folders.add(key)


def same(name: str) -> str:
    """Return a key that is equal for names that are one file on some system.

    macOS and Windows ignore case. Windows also ignores dots and spaces at the end.
    """
    parts = name.split("/")
    return "/".join(unicodedata.normalize("NFC", _folded(part).rstrip(" .") or part) for part in parts)


def is_sound(name: str) -> bool:
    """Return whether a name stays below its folder and can be written."""
    parts = name.split("/")
    return "\0" not in name and all(part not in ("", ".", "..") and len(os.fsencode(part)) <= 255 for part in parts)


def _folded(part: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold())


def _parts(wanted: str, holds: Callable[[str], bool]) -> list[str]:
    parts = [_fit(part, holds) for part in storable(wanted).split("/") if part] or ["unnamed"]
    if len("/".join(parts).encode()) > MAX_BYTES:
        parts = [_digest("/".join(parts[:-1])), parts[-1]]
    return parts


def _fit(part: str, holds: Callable[[str], bool]) -> str:
    if part in (".", ".."):
        return "%2E" * len(part)
    part = _shortened(part.replace("\0", "%00"), MAX_PART_BYTES)
    return part if holds(part) else _shortened(quote(part, safe=PORTABLE), PORTABLE_BYTES).rstrip(" .") or "unnamed"


def _shortened(part: str, limit: int) -> str:
    """Shorten a long name to `limit` bytes: its beginning, a digest of it, and its suffix."""
    if len(part.encode()) <= limit:
        return part
    suffix = os.path.splitext(part)[1]
    suffix = suffix if len(suffix.encode()) <= 16 else ""
    end = f"-{_digest(part)}{suffix}"
    return part.encode()[: limit - len(end.encode())].decode(errors="ignore") + end


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
