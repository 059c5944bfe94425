"""`rollcall export`: other formats, made from the tables of an output."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated

import typer

from jobs.console import count, say
from jobs.errors import run as run_app
from jobs.help import PLAIN
from jobs.options import Identity, Ids
from pipeline.storage.exports import write_mot
from pipeline.storage.state import State

app = typer.Typer(**PLAIN)


class Format(StrEnum):
    MOT = "mot"


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    format_: Annotated[Format, typer.Option("--format", help="mot: MOT text, one file per source, named as its CSV.")],
    ids: Ids = Identity.PERSON,
) -> None:
    """Write the tables of an output in another format, under URI/export/FORMAT.

    What an earlier export wrote there for videos that are gone is removed.
    """
    state = State.open(uri)
    state.store.check_writable()
    folder = f"export/{format_}"
    written = set(WRITERS[format_](state, folder, ids))
    for name in set(state.store.names(folder)) - written:
        state.store.delete(name)
    say(f"{count(len(written), 'file')} -> {state.store.full(folder)}")


def _mot(state: State, folder: str, ids: Identity) -> Iterator[str]:
    for video_id in state.done():
        for name in state.file_names(video_id):
            yield (place := f"{folder}/{name}.txt")
            write_mot(state.store, video_id, place, f"{ids}_id")


WRITERS: Mapping[Format, Callable[[State, str, Identity], Iterator[str]]] = {Format.MOT: _mot}
"""Each writes its files below a folder and names them, relative to the output."""


if __name__ == "__main__":
    run_app(app)
