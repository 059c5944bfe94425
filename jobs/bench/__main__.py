"""`python -m jobs.bench`."""

from jobs.bench import app
from jobs.cli.errors import run_command

if __name__ == "__main__":
    run_command(app)
