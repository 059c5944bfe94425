"""`python -m jobs.evaluate`."""

from jobs.cli.errors import run
from jobs.evaluate import app

if __name__ == "__main__":
    run(app)
