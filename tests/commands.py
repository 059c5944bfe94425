"""A command as a user runs it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rollcall(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What `rollcall COMMAND` says, on a screen of 200 columns, and its exit status."""
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{command}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
