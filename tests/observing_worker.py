"""Kill the worker that observes, while it has several spans in flight. It is the one with several open sources."""

import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil

WAIT_S = 240


def kill_observing_worker(run: "Popen[Any]", sources: Path, num_spans: int) -> int:
    """Kill a worker of `run` that reads so many spans of the files in `sources`, and return how many it reads. Raises
    AssertionError if the run ends without one."""
    give_up_s = time.monotonic() + WAIT_S
    while run.poll() is None and time.monotonic() < give_up_s:
        for process in _below(run.pid):
            num_open = _count_open(process, sources)
            if num_open >= num_spans:
                process.kill()
                return num_open
        time.sleep(0.02)
    raise AssertionError(f"no worker has read {num_spans} spans at the same time; the run's status is {run.poll()}")


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _count_open(process: psutil.Process, sources: Path) -> int:
    try:
        return sum(Path(file.path).parent == sources for file in process.open_files())
    except psutil.Error:
        return 0
