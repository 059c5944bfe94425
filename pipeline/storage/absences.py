"""The errors for places that do not exist. Each message says where the place was expected, the nearest name, and the
remedy."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec import available_protocols

from pipeline.errors import UserError, absent, nearest

CHECK = "check the name, your permissions and credentials"


def unknown_protocol(uri: str, error: Exception) -> UserError:
    """Return the error for a URI that no installed library opens.

    error: the exception that fsspec raised for it.
    """
    protocol = uri.partition("://")[0]
    if isinstance(error, ImportError):
        return UserError(f"{uri}: {protocol}:// needs a library that is not installed: {error}; install it")
    known, otherwise = available_protocols(), "name a path on this machine, s3://, gs:// or https://"
    return UserError(f"{uri}: there is no protocol {protocol}://{nearest(protocol, known, otherwise)}")


def nothing_there(uri: str, fs: Any, path: str) -> UserError:
    """Return the error for a source that does not exist. path: the name of `uri` in `fs`."""
    if "://" not in uri:
        return absent(Path(uri), "file or folder", "correct the name")
    above, names = path.rstrip("/").rpartition("/")[0], list[str]()
    with suppress(Exception):  # every kind of store has its own errors
        names = [str(name).rstrip("/").rpartition("/")[2] for name in fs.ls(above, detail=False)]
    prefix = f"{uri.rstrip('/').rpartition('/')[0]}/"
    return UserError(f"there is no file or folder {uri}{nearest(path.rpartition('/')[2], names, CHECK, prefix)}")


def nothing_matches(uri: str, base: str) -> UserError:
    """Return the error for a pattern without a match. base: the folder or prefix above its first wildcard."""
    if "://" not in uri and not os.path.isdir(base or "/"):
        return absent(Path(base), "folder", f"correct the pattern {uri}")
    return UserError(f"nothing in {base or '/'} matches the pattern {uri}; correct it, or name the folder")


def no_list(uri: str, error: Exception, cause: str) -> UserError:
    """Return the error for a list that cannot be read. cause: the reason of `error` in one line."""
    path = Path(uri).expanduser()
    if "://" not in uri and isinstance(error, FileNotFoundError | NotADirectoryError):
        return absent(path, "list", "correct the name behind the @")
    if "://" not in uri and path.is_dir():
        return UserError(f"list {uri} is a folder; leave out the @ to name all that is in it")
    return UserError(f"list {uri}: {cause}; {CHECK}")
