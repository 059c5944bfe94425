"""`rollcall evaluate`: measure models and outputs on labelled pictures and videos."""

from jobs.cli.lazy_commands import group

COMMANDS = ("attributes", "detector", "faces", "persons", "reid", "restoration", "tracking")
app = group(__name__, COMMANDS, "Measure models and outputs.")
