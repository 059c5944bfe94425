"""`rollcall export`: other formats, made from the tables of an output."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from jobs.cli.console import count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import Identity, Ids
from pipeline.storage.exports import write_mot
from pipeline.storage.names import Names, same
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store

app = typer.Typer(**PLAIN)
WriteVideo = Callable[[Store, str, str, str], None]
"""Writes a video of an output to a file, as `write_mot` does."""


class Format(StrEnum):
    """The formats that there are, as values of --format."""

    MOT = "mot"


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    export_format: Annotated[
        Format, typer.Option("--format", help="mot: MOT text, one file per source, named as its CSV.")
    ],
    ids: Ids = Identity.PERSON,
) -> None:
    """Write the tables of an output in another format, under URI/export/FORMAT.

    What an earlier export wrote there for videos that are gone is removed.
    """
    index = OutputIndex.open(uri)
    index.store.check_writable()
    folder = f"export/{export_format}"
    files = WRITERS[export_format](index, folder, ids)
    written = {same(name) for name in files}
    for name in index.store.names(folder):
        if same(name) not in written:
            index.store.delete(name)
    for write in files.values():
        write()
    say(f"{count(len(files), 'file')} -> {index.store.full(folder)}")


def _files_per_source(
    suffix: str, write: WriteVideo, index: OutputIndex, folder: str, ids: Identity
) -> dict[str, Callable[[], None]]:
    """Return a file for each source of each finished video, named as its CSV with another suffix."""
    names = Names(holds=index.store.holds)
    files = {}
    for video_id in index.done():
        for name in index.file_names(video_id):
            place = names.give(f"{folder}/{name}", suffix)
            files[place] = partial(write, index.store, video_id, place, f"{ids}_id")
    return files


WRITERS: Mapping[Format, Callable[[OutputIndex, str, Identity], Mapping[str, Callable[[], None]]]] = {
    Format.MOT: partial(_files_per_source, ".txt", write_mot)
}
"""The exporter of each format. It returns the files to write below a folder, as a map from their names in the output
to the functions that write them."""


if __name__ == "__main__":
    run_command(app)
