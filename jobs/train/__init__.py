"""`rollcall train`: train the models that ship with Rollcall, and heads for production models."""

from jobs.later import group

COMMANDS = ("attributes", "heads", "networks", "reid", "detector")
app = group(__name__, COMMANDS, "Train models.")
