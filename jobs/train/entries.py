"""The entries that the training commands read from the registry of weights and write for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.console import say
from pipeline.errors import UserError
from pipeline.weights import LISTED, Entry, Registry, fragment, sha256_of

FILE = "registry.yaml"
RESEARCH_ONLY = "AGPL-3.0 AND research-only"
Licence = Annotated[str, typer.Option(help="Licence of the weights, for the registry entry.")]


def entry_of(path: Path, folder: Path, *, kind: str, licence: str, model_input: str, note: str) -> Entry:
    """Return the entry of the weights in `path`, which lies below `folder`, for FILE in `folder`.

    model_input: Entry.input.
    """
    uri = path.relative_to(folder).as_posix()
    return Entry(kind=kind, uri=uri, sha256=sha256_of(path), licence=licence, input=model_input, note=note)


def teacher_path(registry: Registry, name: str, kind: str) -> Path:
    """Return the weights of --teacher `name`. Raises UserError if its kind is not `kind`."""
    entry = registry.entry(name)
    if entry.kind != kind:
        raise UserError(f"--teacher must be of kind {kind}, {name} is of kind {entry.kind}; {LISTED}")
    return registry.path(name)


def write_entries(folder: Path, entries: Mapping[str, Entry], knob: str) -> None:
    """Write `entries` to FILE in `folder`, and print how to use the first of them as the value of `knob`."""
    place = folder / FILE
    place.write_text(text := fragment(entries))
    for line in text.splitlines():
        say(line)
    say(f"use it with --config {place} --set {knob}={next(iter(entries))}")
