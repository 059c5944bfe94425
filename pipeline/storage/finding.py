"""Find the files and objects that one argument, or one line of a list, stands for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pipeline.errors import DataError
from pipeline.storage.faults import FOUND_NOTHING, OURS, patiently, plain_cause
from pipeline.storage.object_pages import ObjectPage, Objects, object_pages
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


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the candidates that one argument or line stands for.

    candidates: of an object store, in order of their uris, after those of the pages before.
    is_last: whether no other page follows.
    """

    candidates: list[Candidate]
    is_last: bool = True


def find(uri: str, output: str) -> tuple[Iterator[Page], str]:
    """Return the candidates that one argument or line stands for, and the folder or prefix that is cut from their
    names. The pages of a prefix are asked for one by one. Everything else is one page.

    The function and its pages raise DataError if nothing exists there or it cannot be listed, PassingError if that may
    pass, and UserError for an unknown protocol.
    """
    if (path := typed_path(uri)) is not None:
        candidates, base = _find_files(path, local_path(output))
        return iter([Page(candidates)]), base
    fs, path = place(uri)
    try:
        pages, outright, base = _find_objects(fs, path, uri)
    except OURS:
        raise
    except Exception as error:
        raise _cause(error) from error
    return _found(pages, fs, outright, output), base


def _found(pages: Iterator[ObjectPage], fs: Any, outright: str | None, output: str) -> Iterator[Page]:
    try:
        for page in pages:
            yield Page(_candidates(fs, page.objects, outright, output), page.is_last)
    except OURS:
        raise
    except Exception as error:
        raise _cause(error) from error


def _cause(error: Exception) -> DataError:
    """Return the error of this project for one that a library raised."""
    return DataError(NOTHING_THERE if isinstance(error, FOUND_NOTHING) else plain_cause(error))


def believe(uri: str, size_bytes: int, etag: str, output: str) -> tuple[Iterator[Page], str]:
    """Return the object that a list describes as `find` would, without a request."""
    fs, path = place(uri)
    objects = {path: {"size": size_bytes, "ETag": etag}}
    return iter([Page(_candidates(fs, objects, path, output))]), path.rpartition("/")[0]


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


def _find_objects(fs: Any, path: str, uri: str) -> tuple[Iterator[ObjectPage], str | None, str]:
    """Find objects in a store. Return them, the one that is named itself, and the prefix that is cut from their names.

    A prefix may also be an object: if that is empty, it only marks a folder.
    """
    if MAGIC.search(path) and not patiently(lambda: fs.exists(path), uri):
        objects: Objects = {}
        for name, details in patiently(lambda: fs.glob(path, detail=True), uri).items():
            is_file = details["type"] != "directory" and details.get("size")
            below = {name: details} if is_file else patiently(lambda name=name: fs.find(name, detail=True), uri)
            objects |= below
        if not objects:
            raise DataError(NOTHING_MATCHES)
        return iter([ObjectPage(objects)]), None, base_of(path)
    info = patiently(lambda: fs.info(path), uri)
    above = path.rpartition("/")[0]
    if info["type"] == "directory":
        return object_pages(fs, path, uri), None, path
    if is_known(path) or "http" in fs.protocol:
        return iter([ObjectPage({path: info})]), path, above
    pages = object_pages(fs, path, uri)
    first = next(pages)
    below = {name: details for name, details in first.objects.items() if name != path}
    if below and not info["size"]:
        return chain([ObjectPage(below, first.is_last)], pages), None, path
    return chain([ObjectPage({path: info} | below, first.is_last)], pages), path, path if below else above


def _candidates(fs: Any, objects: Objects, outright: str | None, output: str) -> list[Candidate]:
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
