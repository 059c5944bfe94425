"""The command `rollcall`: every job under one name. Each is a module of its own as well: `python -m jobs.process`."""

import typer

from jobs import bench, config, demo, plan, process, status, weights
from jobs.errors import run

app = typer.Typer(
    help="Who appears in an archive of video, when and where, who is whom, how old and of which gender each seems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(process.process)
app.command()(plan.plan)
app.command()(status.status)
app.command()(bench.bench)
app.add_typer(config.app, name="config")
app.add_typer(weights.app, name="weights")


def main() -> None:
    """The entry point of the package."""
    run(app)


if __name__ == "__main__":
    main()
