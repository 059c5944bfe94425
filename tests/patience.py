"""Waits of tests for what should happen at once. A busy machine takes its time; only a failing test waits so long."""

import time
from collections.abc import Callable
from typing import Any

import psutil

PATIENCE_S = 180
"""Seconds in which even a busy machine starts a process that imports much."""
POLL_S = 0.02


def eventually(condition: Callable[[], Any], what: str = "it did not come to that") -> Any:
    """Return the first true answer of `condition`. Fails with `what` if there is none."""
    end = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < end, what
        time.sleep(POLL_S)
    return answer


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended. It need not be reaped: in many containers nobody reaps an orphan."""
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
