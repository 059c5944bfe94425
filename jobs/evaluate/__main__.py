"""`python -m jobs.evaluate`."""

from jobs.cli.errors import run_command
from jobs.evaluate import app

if __name__ == "__main__":
    run_command(app)
