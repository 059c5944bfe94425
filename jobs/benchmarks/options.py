"""Options that several benches share."""

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError


class Engine(StrEnum):
    """The engines that a bench measures."""

    LOCAL = "local"
    RAY = "ray"
    BOTH = "both"


ChosenEngine = Annotated[Engine, typer.Option("--engine", help="The engine to measure.")]
Clip = Annotated[Path | None, typer.Option(help="A video; without it, the clip of the demo.", metavar="FILE")]
Length = Annotated[
    float | None, typer.Option("--seconds", min=0.1, help="Cut or repeat the clip to this length.", metavar="NUMBER")
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write the figures, the machine, the versions and the commit here.", metavar="FILE"),
]
Repeats = Annotated[int, typer.Option(min=1, help="How often each way is gone. The ways take turns.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Small sizes that take seconds, to try the command. The figures mean nothing.")
]


def words_of(text: str, known: Collection[str], option: str) -> list[str]:
    """Return the words of `text`, which has commas between them. Raises UserError for a word that is not in `known`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UserError(f"{option}: {word} is not known; choose among {', '.join(known)}")
    return words
