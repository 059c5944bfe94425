"""Kinds of failure: the data's (stays on its row), the user's (a line and exit 2); the rest are bugs and crash."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class DataError(Exception):
    """This input cannot be processed, and retrying will not help. The run goes on without it."""


class UserError(Exception):
    """A person can put this right: the message says what is wrong, where, and the remedy."""


def nearest(word: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """The end of a message about a word that is not known: the nearest one that is, behind `prefix`, or `otherwise`."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else f"; {otherwise}"


def absent(path: Path, kind: str = "file", otherwise: str = "correct the path") -> UserError:
    """The error of a path that leads nowhere: where was looked, and the nearest name there."""
    where = "" if path.is_absolute() else f" in {Path.cwd()}"
    gone = [parent for parent in path.parents if not parent.is_dir()]
    if gone:
        return UserError(f"there is no {kind} {path}{where}: there is no folder {gone[-1]}; {otherwise}")
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        names = []
    prefix = "" if path.parent == Path() else f"{str(path.parent).rstrip('/')}/"
    return UserError(f"there is no {kind} {path}{where}{nearest(path.name, names, otherwise, prefix)}")
