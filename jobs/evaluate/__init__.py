"""`rollcall evaluate`: how good models are, on labelled pictures."""

from jobs.later import group

COMMANDS = ("attributes", "detector", "reid", "restoration")
app = group(__name__, COMMANDS, "Measure models.")
