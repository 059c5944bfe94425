"""What files of an output are called after: any name of a source becomes one that every store can hold.

Contract: a name given stays below its folder and is UTF-8; no part is longer than file systems allow; no two of one
folder are the same to a file system that ignores case, the form of accents, or dots and spaces at the end; and none is
both a file and a folder. The plain name of a source is kept as it is.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from urllib.parse import quote

from pipeline.text import storable

MAX_PART_BYTES = 240
"""Of a file's name, 255 bytes nearly everywhere; some are left for `.2.csv`."""
MAX_BYTES = 700
"""Of a whole name below its folder: keys of object stores have 1024 with their prefix."""
PORTABLE_BYTES = 120
PORTABLE = " !#$&'()+,;=@[]^`{}"
"""Besides letters, digits and `_.-~`: what every file system takes."""


class Names:
    """The names of one folder of an output. holds: whether the output's file system takes a part of a name."""

    def __init__(self, given: Iterable[str] = (), holds: Callable[[str], bool] = lambda _: True) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._next: dict[str, int] = defaultdict(lambda: 1)
        self._holds = holds
        for name in given:
            self._enter(name)

    def give(self, wanted: str, suffix: str) -> str:
        """`wanted` + `suffix`, or with the first free number where that is another's."""
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
                if suffix:  # files of one name are many, in lists; a folder's files share the folder
                    self._next[key] = number
                return name
        raise AssertionError("there are more names than files")

    def _enter(self, name: str) -> None:
        key = same(name)
        self._files.add(key)
        while key := key.rpartition("/")[0]:
            self._folders.add(key)


def same(name: str) -> str:
    """Equal for names that are one file somewhere: macOS and Windows ignore case, and the latter dots at the end."""
    parts = name.split("/")
    return "/".join(unicodedata.normalize("NFC", _folded(part).rstrip(" .") or part) for part in parts)


def is_sound(name: str) -> bool:
    """Whether a name stays below its folder and can be written at all."""
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
    """The beginning of a long name, a digest of it, and its suffix."""
    if len(part.encode()) <= limit:
        return part
    suffix = os.path.splitext(part)[1]
    suffix = suffix if len(suffix.encode()) <= 16 else ""
    end = f"-{_digest(part)}{suffix}"
    return part.encode()[: limit - len(end.encode())].decode(errors="ignore") + end


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
