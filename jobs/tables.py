"""`rollcall tables`: the files of the current snapshot."""

from typing import Annotated

import typer
from rich.table import Column, Table

from jobs.cli.console import console, count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from pipeline.errors import UserError, nearest
from pipeline.storage.output_index import open_output
from pipeline.storage.snapshots import Snapshot

app = typer.Typer(**PLAIN)


@app.command()
def tables(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    name: Annotated[str | None, typer.Argument(help="A dataset: print the names of its files.")] = None,
) -> None:
    """Show the snapshot that `rollcall compact` made last, or the files of one dataset in it, one per line."""
    store = open_output(uri)
    snapshot = Snapshot.read(store)
    if snapshot is None:
        raise UserError(f"{uri} has no snapshot; run `rollcall compact {uri}`")
    if name is not None:
        if name not in snapshot.parts:
            raise UserError(
                f"the snapshot has no dataset {name}{nearest(name, snapshot.parts, 'see `rollcall tables`')}"
            )
        for part in snapshot.parts[name]:
            typer.echo(store.full(part.name))
        return
    say(
        f"{store.full(snapshot.folder)}: made {snapshot.made_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"{count(snapshot.num_videos, 'video')}"
    )
    right = [Column(title, justify="right") for title in ("rows", "files", "MB")]
    shown = Table("dataset", *right, box=None, pad_edge=False, header_style="bold")
    for dataset, parts in snapshot.parts.items():
        megabytes = sum(part.bytes for part in parts) / 1e6
        shown.add_row(dataset, f"{snapshot.num_rows(dataset):,}", f"{len(parts)}", f"{megabytes:,.1f}")
    console.print(shown)


if __name__ == "__main__":
    run_command(app)
