"""Files of this machine: what lies below a folder, and room for a new name."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def details_below(path: str) -> dict[str, dict[str, Any]]:
    """Return the files below a folder of this machine, with their details as fsspec names them.

    fsspec's own search returns nothing for a folder in which a file vanishes meanwhile.
    """
    details = {}
    for folder, _, files in os.walk(path, followlinks=True):
        for file in (os.path.join(folder, name) for name in files):
            with suppress(FileNotFoundError):
                status = os.stat(file)
                details[file] = {"size": status.st_size, "mtime": status.st_mtime_ns, "ino": status.st_ino}
                details[file]["LastModified"] = datetime.fromtimestamp(status.st_mtime, UTC)
    return details


def clear_way(target: Path) -> None:
    """Remove empty folders that deleted files left in place of a file to be written. Files stay."""
    for folder, _, _ in os.walk(target, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
