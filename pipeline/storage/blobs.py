"""Read the bytes at an address of any protocol that fsspec supports. A failure is an OSError that states the cause."""

from collections.abc import Iterator
from typing import Any

from pipeline.storage.faults import plain_cause
from pipeline.storage.places import local_path, place
from pipeline.storage.remote import open_patiently

BLOCK_BYTES = 4 << 20


def fetch(uri: str) -> Iterator[bytes]:
    """Yield the bytes of the object at `uri` in blocks of up to 4 MiB.

    Raises OSError if the object is missing, unreachable or forbidden, or if its driver is not installed.
    """
    # aiohttp reads the proxy from the environment only if trust_env is set.
    options: dict[str, Any] = {"client_kwargs": {"trust_env": True}} if uri.startswith("http") else {}
    try:
        fs, path = place(uri, **options)
        with fs.open(path, "rb") if local_path(uri) is not None else open_patiently(fs, path, uri) as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except Exception as error:  # aiohttp, botocore and a missing driver each raise their own exceptions
        cause = plain_cause(error)
        raise OSError("no such file" if cause == uri else cause) from error
