"""Where a uri leads, and what a place is called.

Contract: a name is a name. `::` chains no file systems, as it does in fsspec, and `~` means a home only where nothing
is called so. A uri is always UTF-8: a local path is its own uri, unless it holds bytes that are not UTF-8; then the uri
is `file://` with the path percent-encoded. `local_path(uri_of(path))` is `path`.
"""

import os
import re
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import fsspec

from pipeline.storage.absences import unknown_protocol

FILE = "file://"
MAGIC = re.compile(r"[*?\[]")
"""What makes a pattern of a path."""


def place(uri: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a uri, and the path in it. Raises UserError for a protocol that nothing here speaks.

    options: of a file system that is not this machine's.
    """
    if (path := local_path(uri)) is not None:
        return fsspec.filesystem("file"), path
    protocol = uri.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(protocol)
        return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(uri), **options), kind._strip_protocol(uri)
    except (ValueError, ImportError) as error:
        raise unknown_protocol(uri, error) from error


def local_path(uri: str) -> str | None:
    """The absolute path of a place on this machine; None for any other."""
    if uri.startswith(FILE):
        rest = uri.removeprefix(FILE)
        decoded = unquote_to_bytes(rest)
        return _absolute(rest if _is_utf8(decoded) else os.fsdecode(decoded))
    if "://" in uri:
        return None
    is_home = uri.startswith("~") and not os.path.lexists(uri)
    return _absolute(os.path.expanduser(uri) if is_home else uri)


def uri_of(path: str) -> str:
    """The uri of an absolute path on this machine."""
    encoded = os.fsencode(path)
    return path if _is_utf8(encoded) else f"{FILE}{quote(encoded)}"


def is_below(uri: str, root: str) -> bool:
    """Whether a place lies below another. Both as this module writes them."""
    inner, outer = (local_path(each) or each for each in (uri, root))
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
