"""Open the files of sources, wherever they lie."""

from collections.abc import Callable
from typing import BinaryIO

from pipeline.storage.faults import plain_cause
from pipeline.storage.places import local_path, place
from pipeline.storage.remote import open_patiently

READ_BYTES = 4 << 20
"""The block size for reads from an object store. Containers are read in order."""


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
            raise OSError(plain_cause(error)) from error

    return open_remote
