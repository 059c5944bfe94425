"""`python -m jobs.train`."""

from jobs.cli.errors import run_command
from jobs.train import app

if __name__ == "__main__":
    run_command(app)
