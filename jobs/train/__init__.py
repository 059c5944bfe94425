"""`rollcall train`: train the models that ship with Rollcall, and heads for production models."""

from jobs.cli.lazy_commands import group

COMMANDS = ("attributes", "heads", "networks", "reid", "detector", "faces")
app = group(__name__, COMMANDS, "Train models.")
