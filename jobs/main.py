"""The command `rollcall`: every job under one name. Each is a module of its own as well: `python -m jobs.process`."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from jobs.errors import INTERRUPTED, run


def command_line() -> typer.Typer:
    """All commands. Importing them takes seconds, in which somebody may change their mind."""
    from jobs import (
        bench,
        config,
        datasets,
        demo,
        evaluate,
        export,
        plan,
        process,
        relink,
        review,
        status,
        train,
        weights,
    )

    app = typer.Typer(
        help="Who appears in an archive of video, when and where, who is whom, how old and of which gender each seems.",
        epilog="--debug, anywhere, shows the traceback of an error.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    app.command()(demo.demo)
    app.command()(process.process)
    app.command()(plan.plan)
    app.command()(status.status)
    app.command()(relink.relink)
    app.command()(export.export)
    app.command()(bench.bench)
    app.command()(review.review)
    app.add_typer(train.app, name="train")
    app.add_typer(evaluate.app, name="evaluate")
    app.add_typer(datasets.app, name="datasets")
    app.add_typer(config.app, name="config")
    app.add_typer(weights.app, name="weights")
    return app


def main() -> None:
    """The entry point of the package."""
    try:
        app = command_line()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rollcall {version('rollcall')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
