"""The order of the files of a sequence."""

import re
from collections.abc import Sequence

from pipeline.storage.places import local_path, uri_of


def in_order(sequence: str, known: Sequence[str], named: Sequence[str]) -> list[str]:
    """Return the uris of a sequence in order.

    known: the uris of the sequence in their earlier order.
    named: the uris in the order in which they are named now.

    A uri that is not named now keeps its place behind the uri that preceded it. The files of a folder's own sequence
    are sorted by name, and numbers in names count as numbers.
    """
    ordered = list(named)
    at = 0
    for uri in known:
        if uri in ordered:
            at = ordered.index(uri) + 1
        else:
            ordered.insert(at, uri)
            at += 1
    if all(folder_of(uri) == sequence for uri in ordered):
        ordered.sort(key=natural_key)
    return ordered


def folder_of(uri: str) -> str:
    """Return the uri of the folder or prefix that holds the file at `uri`."""
    path = local_path(uri)
    return uri.rpartition("/")[0] if path is None else uri_of(path.rpartition("/")[0] or "/")


def natural_key(uri: str) -> tuple[list[str | int], str]:
    """Return a key for sorting that counts numbers in names as numbers and ignores case."""
    parts = re.split(r"(\d+)", uri.lower())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], uri
