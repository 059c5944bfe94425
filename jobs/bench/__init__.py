"""`rollcall bench`: measurements. Each compares ways of doing the same work, side by side in one run."""

from jobs.cli.lazy_commands import group

COMMANDS = ("overhead", "startup", "decode", "seeds", "limit", "naive", "scale", "gpu")
app = group(__name__, COMMANDS, "Measure the speed of this machine and of this program.")
