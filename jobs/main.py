"""The command `rollcall`: every job under one name. Each job is also a module: `python -m jobs.process`."""

import signal
from typing import Annotated

import typer

from jobs.cli.errors import run_command
from jobs.cli.lazy_commands import group
from pipeline.version import rollcall_version

COMMANDS = (
    *("demo", "process", "plan", "status", "report", "relink", "links", "compact", "forget", "tables", "export"),
    *("annotate", "anonymise"),
    *("compare", "bench", "review", "train", "evaluate", "datasets", "config", "weights"),
)
ABOUT = "Who appears in an archive of video, when and where, who is who, how old and of which gender each seems."


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rollcall {rollcall_version()}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    pass


app = group("jobs", COMMANDS, ABOUT, epilog="--debug, anywhere, shows the traceback of an error.", options=_options)


def main() -> None:
    """Run the entry point of the package. SIGTERM counts as an interruption, like Ctrl-C, while a command is imported
    too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_command(app)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
