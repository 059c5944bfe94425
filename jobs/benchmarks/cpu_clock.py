"""CPU seconds of a process with all its children, as Ray's workers are, which other meters of a process leave out."""

from collections.abc import Callable

import psutil


def family_clock(pid: int | None = None) -> Callable[[], float]:
    """Return a function that returns the CPU seconds used so far by a process and all its descendants, dead ones
    included. Those who live and die between two calls are missed.

    pid: of the process; None: this one.
    """
    seconds_of: dict[psutil.Process, float] = {}

    def read() -> float:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            family = []
        for process in family:
            try:
                times = process.cpu_times()
                seconds_of[process] = times.user + times.system
            except psutil.Error:
                continue
        return sum(seconds_of.values())

    return read
