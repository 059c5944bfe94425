"""Identify the content of a source, whatever its name."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pipeline.errors import ChangedError, DataError, PassingError, UserError, blame_machine
from pipeline.storage.faults import plain_cause
from pipeline.storage.places import local_path, place
from pipeline.storage.remote import open_patiently
from pipeline.storage.source_files import check_unchanged
from pipeline.storage.sources import Source

WHOLE_BYTES = 64 << 20
"""The largest content that is hashed completely."""
BLOCK_BYTES = 8 << 20
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


def content_id(source: Source) -> str:
    """Return 20 hex digits that identify the content of `source`, whatever its name.

    Up to 64 MiB, all bytes count. Above, the size and 16 samples of 1 MiB at even distances count, which include the
    first and the last MiB. Two files that differ only between the samples get the same id. An object store is asked
    for these bytes alone, in at most 17 requests.

    Raises DataError if the source cannot be read, ChangedError if it changes, PassingError if the failure may pass, and
    UserError if nothing in its place can be read.
    """
    try:
        fs, path = place(source.uri)
        if local_path(source.uri) is not None:
            with open(path, "rb") as file:
                video_id = _hashed(file, file.seek(0, 2))
            check_unchanged(source.uri, source.size_bytes, source.etag)
            return video_id
        # Without a cache, each read is one request. A cache would fetch more than the samples.
        with open_patiently(fs, path, source.uri, cache_type="none") as file:
            return _hashed(file, file.seek(0, 2))
    except (PassingError, UserError, ChangedError):
        raise
    except FileNotFoundError as error:
        raise DataError("it is not there any more") from error
    except Exception as error:
        blame_machine(error)
        raise DataError(f"cannot be read: {plain_cause(error)}") from error


def unchanged_source(uris: Sequence[str], video_id: str) -> str:
    """Return the first source that still has the content `video_id`. Raises DataError with the reason of the first
    one, and PassingError and UserError as `content_id` does."""
    reasons = []
    for uri in uris:
        try:
            if content_id(Source(uri=uri, name="", named_by="")) == video_id:
                return uri
            reasons.append("it has changed since it was processed; process it again")
        except DataError as error:
            reasons.append(str(error))
    raise DataError(reasons[0] if reasons else "no source of it is known")


def _hashed(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256() if size <= WHOLE_BYTES else hashlib.sha256(size.to_bytes(8, "big"))
    for start, end in _ranges(size):
        file.seek(start)
        content = file.read(end - start)
        if len(content) != end - start:
            raise ChangedError("it changed while it was read; the next run reads it again")
        digest.update(content)
    return digest.hexdigest()[:20]


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts [start, end) of a file of `size` bytes that make its id, in order."""
    if size <= WHOLE_BYTES:
        yield from ((start, min(start + BLOCK_BYTES, size)) for start in range(0, size, BLOCK_BYTES))
        return
    for i in range(NUM_SAMPLES):
        start = (size - SAMPLE_BYTES) * i // (NUM_SAMPLES - 1)
        yield start, start + SAMPLE_BYTES
