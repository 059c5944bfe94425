"""The process of the local engine, which can start before all else. This module imports little."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.child import Child, ChildDiedError
from pipeline.config import Config, cluster_address


@dataclass(frozen=True, slots=True)
class Prepare:
    """Message before the pools: import what loading models takes."""


def start() -> Child:
    """Start the process, which waits for the pools. Raises OSError if no process can be started."""
    # Libraries write to stderr what is nobody's business. The lines of the journal get a way of their own.
    stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    with os.fdopen(stderr, "wb"):
        return Child("pipeline.flow.local_process", [stderr])


@contextmanager
def started_early(config: Config, output: str | None) -> Iterator[Child | None]:
    """Start the process for the block if a run into `output` will almost surely need it, and yield it. It loads torch
    on another core while the run still looks at its sources."""
    child = None
    if output and is_foreseen(config, output):
        with suppress(OSError, ChildDiedError):  # a later start will report it
            child = start()
            child.send(Prepare())
    try:
        yield child
    finally:
        if child is not None:
            child.close()


def is_foreseen(config: Config, output: str) -> bool:
    """Return whether a run into `output` will almost surely need the process: the output is a folder that is new or
    empty, and nothing asks for Ray. An older output may hold all that is asked for."""
    if config.run.engine == "ray" or asks_for_several(config) or cluster_address(config) or "://" in output:
        return False
    try:
        return next(Path(output).iterdir(), None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def asks_for_several(config: Config) -> bool:
    """Return whether the user asks for several workers, which only Ray has."""
    run = config.run
    return any(pool is not None and pool.has_several for pool in (run.observe, run.enrich, run.restore))
