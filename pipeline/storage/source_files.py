"""Open the files of sources, wherever they lie."""

from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from pipeline.errors import ChangedError
from pipeline.storage.faults import plain_cause
from pipeline.storage.places import local_path, place
from pipeline.storage.remote import open_patiently
from pipeline.storage.walk import Entry, entry_at

CHANGED = "it has changed since it was listed, as a file does that is still being written; the next run takes it"
READ_BYTES = 4 << 20
"""The block size for reads from an object store. Containers are read in order."""


def check_unchanged(uri: str, size_bytes: int | None, etag: str | None) -> None:
    """Raise ChangedError if a file of this machine no longer has the size and the etag with which it was listed.

    Nothing is checked where one of them is unknown, and for an object: s3fs checks its etag at each read.
    """
    entry = file_now(uri)
    if entry is None or None in (size_bytes, etag) or entry.size_bytes is None:
        return
    if (entry.size_bytes, entry.etag) != (size_bytes, etag):
        raise ChangedError(CHANGED)


def file_now(uri: str) -> Entry | None:
    """Return the file of this machine at `uri`, None for an object or if nothing can be read there."""
    path = local_path(uri)
    with suppress(OSError):
        return None if path is None else entry_at(path)


def opener(uri: str) -> Callable[[], str | BinaryIO]:
    """Return a function that opens the source at `uri` at each call: it returns the path of a local file, else a
    seekable file object.

    The function and the reads of its files raise OSError for this file, PassingError for a failure that may pass,
    UserError for one of the whole place, and DataError for a file that was replaced while it was read.
    """
    fs, path = place(uri)
    if (local := local_path(uri)) is not None:
        return lambda: local

    def open_remote() -> BinaryIO:
        try:
            return open_patiently(fs, path, uri, cache_type="readahead", block_size=READ_BYTES)
        except OSError as error:  # its text is the library's
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
            raise kind(plain_cause(error)) from error

    return open_remote
