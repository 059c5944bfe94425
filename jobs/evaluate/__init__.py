"""`rollcall evaluate`: how good models are, on labelled pictures."""

import typer

app = typer.Typer(help="Measure models.", no_args_is_help=True, pretty_exceptions_enable=False)
