"""Identify the content of a source, whatever its name."""

import hashlib

from pipeline.errors import DataError, blame_machine
from pipeline.storage.faults import plain_cause
from pipeline.storage.places import place
from pipeline.storage.sources import Source

WHOLE_BYTES = 64 << 20
"""The largest content that is hashed completely."""
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 16


def content_id(source: Source) -> str:
    """Return 20 hex digits that identify the content of `source`, whatever its name.

    Up to 64 MiB, all bytes count. Above, the size and 16 samples of 1 MiB at even distances count, which include the
    first and the last MiB. Two files that differ only between the samples get the same id. Raises DataError if the
    source cannot be read.
    """
    digest = hashlib.sha256()
    try:
        fs, path = place(source.uri)
        size = int(fs.info(path)["size"])
        with fs.open(path, "rb") as file:
            if size <= WHOLE_BYTES:
                while block := file.read(SAMPLE_BYTES):
                    digest.update(block)
            else:
                digest.update(size.to_bytes(8, "big"))
                for i in range(NUM_SAMPLES):
                    file.seek((size - SAMPLE_BYTES) * i // (NUM_SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
    except Exception as error:
        blame_machine(error)
        raise DataError(f"cannot be read: {plain_cause(error)}") from error
    return digest.hexdigest()[:20]
