"""The bytes behind an address of any protocol that fsspec speaks, in blocks; a failure is an OSError that says why."""

from collections.abc import Iterator
from typing import Any

from pipeline.storage.places import place
from pipeline.storage.store import plain_cause

BLOCK_BYTES = 4 << 20


def fetch(uri: str) -> Iterator[bytes]:
    """The bytes of the object at `uri`, block by block. Raises OSError: missing, unreachable, forbidden, no driver."""
    # aiohttp asks the environment for a proxy only when told to.
    options: dict[str, Any] = {"client_kwargs": {"trust_env": True}} if uri.startswith("http") else {}
    try:
        fs, path = place(uri, **options)
        with fs.open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except Exception as error:  # aiohttp, botocore and a missing driver each have their own kinds
        cause = plain_cause(error)
        raise OSError("no such file" if cause == uri else cause) from error
