"""`rollcall process`: from sources to tables, the main job."""

import sys
from typing import Annotated

import typer

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles, Output, Profile, SequenceBy, Settings, Sources, WaitLease
from pipeline.flow.local_child import started_early
from pipeline.version import rollcall_version

app = typer.Typer(**PLAIN)


@app.command()
def process(
    sources: Sources,
    output: Output = None,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it Ray starts here.")] = None,
    allow_quarantined: Annotated[bool, typer.Option(help="End with status 0 though videos were quarantined.")] = False,
    retry_quarantined: Annotated[bool, typer.Option(help="Try again what earlier runs gave up.")] = False,
    prune: Annotated[bool, typer.Option(help="Remove the rows of videos that no current source names.")] = False,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="json", help="Write each event as a line of JSON on stderr too; they are in OUTPUT/_events anyhow."
        ),
    ] = None,
    sequence: SequenceBy = None,
    close_sequences: Annotated[
        bool, typer.Option(help="The named sequences are complete: remove what is kept for linking further files.")
    ] = False,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Find who appears in SOURCES, when and where, who is who, how old and of which gender; write tables to OUTPUT."""
    console.say(f"rollcall {rollcall_version()}: looking at the sources")
    named = {"run.address": address, "run.log": log}
    settings = [*(settings or []), *(f"{knob}={value}" for knob, value in named.items() if value)]
    with started_early(output) as early:
        # These are imported while that process imports what it needs.
        from pipeline.config import load

        chosen = load(config or [], settings, profile)
        worker = early.prepared(chosen, output or chosen.run.output)
        from jobs.shared.checks import place_of_output, verified_models
        from jobs.shared.processing import work_through
        from jobs.shared.sources import open_aloud
        from pipeline.storage.store import Store

        store = Store(place_of_output(output, chosen))
        listing = open_aloud(sources, store.uri, sequence)
        outcome = work_through(
            listing,
            chosen,
            verified_models(chosen),
            store,
            retry_quarantined=retry_quarantined,
            prune=prune,
            close_sequences=close_sequences,
            wait_lease_s=wait_lease,
            early=worker,
        )
    if status := outcome.status(allow_quarantined=allow_quarantined):
        sys.exit(status)


if __name__ == "__main__":
    run_command(app)
