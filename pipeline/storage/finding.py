"""Find the files and objects that one argument, or one line of a list, stands for."""

import os
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DataError, UserError
from pipeline.storage.faults import FOUND_NOTHING, plain_cause
from pipeline.storage.places import MAGIC, local_path, place, typed_path, uri_of
from pipeline.storage.sources import is_known
from pipeline.storage.walk import Entry, entry_at, is_inside, match, walk

NOTHING_THERE = "there is no such file or folder"
NOTHING_MATCHES = "nothing matches this pattern"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible source.

    entry: the file or folder.
    uri: its address.
    outright: whether it was named itself, so that any name is accepted.
    """

    entry: Entry
    uri: str
    outright: bool = False


def find(uri: str, output: str) -> tuple[list[Candidate], str]:
    """Return the candidates that one argument or line stands for, and the folder or prefix that is cut from their
    names.

    Raises DataError if nothing exists there or it cannot be listed, and UserError for an unknown protocol.
    """
    if (path := typed_path(uri)) is not None:
        return _find_files(path, local_path(output))
    fs, path = place(uri)
    try:
        return _find_objects(fs, path, output)
    except FOUND_NOTHING:
        raise DataError(NOTHING_THERE) from None
    except (DataError, UserError):
        raise
    except Exception as error:
        raise DataError(plain_cause(error)) from error


def believe(uri: str, size_bytes: int, etag: str, output: str) -> tuple[list[Candidate], str]:
    """Return the object that a list describes as `find` would, without a request."""
    fs, path = place(uri)
    return _candidates(fs, {path: {"size": size_bytes, "ETag": etag}}, path, output), path.rpartition("/")[0]


def _find_files(path: str, output: str | None) -> tuple[list[Candidate], str]:
    """Find files of this machine: the file at a path, those below a folder, or the matches of a pattern."""
    avoided = os.path.realpath(output) if output else os.devnull
    above = path.rpartition("/")[0]
    try:
        entry = entry_at(path)
    except FOUND_NOTHING:
        if not MAGIC.search(path):
            raise DataError(NOTHING_THERE) from None
        return _matching(path, avoided), base_of(path)
    except OSError as error:
        raise DataError(plain_cause(error)) from error
    if is_inside(path, avoided):
        return [], path
    if not entry.is_folder:
        return [Candidate(entry, uri_of(path), outright=True)], above
    entries = list(walk(path, avoided))
    if entries and entries[0].path == path:
        raise DataError(str(entries[0].why_not))
    return [Candidate(entry, uri_of(entry.path)) for entry in entries], path


def _matching(pattern: str, avoided: str) -> list[Candidate]:
    try:
        matches = list(match(pattern, avoided))
    except ValueError as error:
        raise DataError(str(error)) from error
    entries = {entry.path: entry for entry in matches if not entry.is_folder or entry.is_unlisted}
    for entry in matches:
        if entry.is_folder and not entry.is_unlisted:
            entries |= {inner.path: inner for inner in walk(entry.path, avoided)}
    if not matches:
        raise DataError(NOTHING_MATCHES)
    return [Candidate(entry, uri_of(entry.path)) for entry in entries.values()]


def _find_objects(fs: Any, path: str, output: str) -> tuple[list[Candidate], str]:
    """Find objects in a store. A prefix may also be an object: if that is empty, it only marks a folder."""
    above = path.rpartition("/")[0]
    objects: dict[str, Any] = {}
    outright, base = None, path
    if MAGIC.search(path) and not fs.exists(path):
        base = base_of(path)
        for name in fs.glob(path):
            objects |= fs.find(name, detail=True)
        if not objects:
            raise DataError(NOTHING_MATCHES)
    else:
        info = fs.info(path)
        is_file = info["type"] != "directory"
        below = {} if is_file and (is_known(path) or "http" in fs.protocol) else fs.find(f"{path}/", detail=True)
        objects = {name: details for name, details in below.items() if name != path}
        if is_file and not (objects and not info["size"]):
            outright, base = path, path if objects else above
            objects[path] = info
    return _candidates(fs, objects, outright, output), base


def _candidates(fs: Any, objects: dict[str, Any], outright: str | None, output: str) -> list[Candidate]:
    """Return the candidates among objects.

    outright: the one that was named itself.
    """
    candidates = []
    for name, details in objects.items():
        uri = fs.unstrip_protocol(name)
        if name.endswith("/") and not details.get("size"):
            continue  # it marks a folder
        if uri != output and not uri.startswith(f"{output}/"):
            # Some libraries read the text after it as the version of another object.
            why_not = "its key holds ?versionId=" if "?versionId=" in name and name != outright else None
            entry = Entry(path=name, size_bytes=details.get("size"), etag=_etag(details), why_not=why_not)
            candidates.append(Candidate(entry, uri, outright=name == outright))
    return candidates


def base_of(pattern: str) -> str:
    """Return the folder or prefix above the first wildcard."""
    magic = MAGIC.search(pattern)
    return pattern[: magic.start()].rpartition("/")[0] if magic else pattern


def _etag(details: dict[str, Any]) -> str | None:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if details.get(key):
            return str(details[key]).strip('"')
    return None
