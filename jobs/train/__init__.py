"""`rollcall train`: the models that ship with Rollcall, and production heads of one's own."""

from jobs.later import group

COMMANDS = ("attributes", "heads", "networks", "reid", "detector")
app = group(__name__, COMMANDS, "Train models.")
