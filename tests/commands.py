"""Run a command as a user does."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from jobs import main

ROOT = Path(__file__).parents[1]
SCREEN = {"COLUMNS": "200"}


def rollcall(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `rollcall COMMAND` on a screen of 200 columns, and return its output and its exit status."""
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{command}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | SCREEN,
    )


def rollcall_here(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Do as `rollcall`, in this process, which spares the seconds of the imports. Errors that the command does not
    expect are raised."""
    words = ["rollcall", command, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", words)
        patch.chdir(ROOT)
        for name, value in SCREEN.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main.main()
    status = ended.value.code
    assert status is None or isinstance(status, int), status
    return subprocess.CompletedProcess(words, status or 0, out.getvalue(), err.getvalue())
