"""`rollcall train`: the models that ship with Rollcall, and production heads of one's own."""

import typer

app = typer.Typer(help="Train models.", no_args_is_help=True, pretty_exceptions_enable=False)

# Each helper adds: `from jobs.train.NAME import NAME` above and `app.command()(NAME)` here.
