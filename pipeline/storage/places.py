"""Convert between uris and places.

By contract, names are taken literally. `::` does not chain file systems, as it does in fsspec. `~` means a home only
if nothing has that name. A uri is always UTF-8. A local path is its own uri, unless it holds bytes that are not
UTF-8. Then the uri is `file://` with the path percent-encoded. `local_path(uri_of(path))` is `path`.
"""

import os
import re
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import fsspec
from fsspec.config import conf

from pipeline.storage.absences import unknown_protocol

FILE = "file://"
MAGIC = re.compile(r"[*?\[]")
"""The characters that make a path a pattern."""
CONFIG_OF_S3: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "max_pool_connections": 64,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
"""Settings of botocore. Times are in seconds."""


def place(uri: str, **options: Any) -> tuple[Any, str]:
    """Return the fsspec file system of a uri, and the path in it.

    options: options for a file system other than the local one.

    Raises UserError if no installed library supports the protocol.
    """
    if (path := local_path(uri)) is not None:
        return fsspec.filesystem("file"), path
    protocol = uri.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(protocol)
        if protocol in ("s3", "s3a"):
            options = _options_of_s3() | options
        fs = fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(uri), **options)
        if protocol in ("s3", "s3a"):
            fs.retries = 1  # storage.faults repeats, with longer waits and more kinds of failure
        return fs, kind._strip_protocol(uri)
    except (ValueError, ImportError) as error:
        raise unknown_protocol(uri, error) from error


def _options_of_s3() -> dict[str, Any]:
    """Return options for s3fs: short time-outs, few repetitions of its own, and connections for many threads.

    A user may set others in fsspec's configuration (FSSPEC_S3_… in the environment).
    """
    stated = conf.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": CONFIG_OF_S3 | dict(stated)}


def local_path(uri: str) -> str | None:
    """Return the absolute path of a place on this machine, or None for any other place."""
    if uri.startswith(FILE):
        rest = uri.removeprefix(FILE)
        decoded = unquote_to_bytes(rest)
        return _absolute(rest if _is_utf8(decoded) else os.fsdecode(decoded))
    if "://" in uri:
        return None
    is_home = uri.startswith("~") and not os.path.lexists(uri)
    return _absolute(os.path.expanduser(uri) if is_home else uri)


def typed_path(argument: str) -> str | None:
    """Return the path on this machine that an argument means, or None for other places.

    A name such as file:///a%20b, as file managers write it, is decoded if a file has the decoded name.
    """
    path = local_path(argument)
    if path is not None and argument.startswith(FILE) and not os.path.lexists(path):
        decoded = os.path.abspath(unquote(argument.removeprefix(FILE)))
        return decoded if os.path.lexists(decoded) else path
    return path


def uri_of(path: str) -> str:
    """Return the uri of an absolute path on this machine."""
    encoded = os.fsencode(path)
    return path if _is_utf8(encoded) else f"{FILE}{quote(encoded)}"


def is_below(uri: str, root: str) -> bool:
    """Return whether the place `uri` lies below `root`. Both are as this module writes them."""
    inner, outer = (local_path(address) or address for address in (uri, root))
    return inner.startswith(f"{outer.rstrip('/')}/")


def _absolute(path: str) -> str:
    path = os.path.abspath(path)
    return path[1:] if path.startswith("//") else path


def _is_utf8(encoded: bytes) -> bool:
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return False
    return True
