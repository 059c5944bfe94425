"""Run a command as a user does, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rollcall(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `rollcall COMMAND` on a screen of 200 columns, and return its output and its exit status."""
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{command}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
