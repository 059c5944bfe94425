"""The version of the program, also where it runs from a folder and is not installed, as a job on a cluster does."""

import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def rollcall_version() -> str:
    """Return the version of the installed distribution, or that of the project in whose folder this file lies."""
    try:
        return metadata.version("rollcall")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads(PROJECT.read_text())["project"]["version"])
