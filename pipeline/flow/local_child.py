"""The process of the local engine, which can start before all else. This module imports little."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.child import Child, ChildDiedError

if TYPE_CHECKING:  # it imports numpy and pydantic, and the process should start before
    from pipeline.config import Config


@dataclass(frozen=True, slots=True)
class Prepare:
    """Message before the pools: import what loading models takes."""


def start() -> Child:
    """Start the process, which waits for the pools. Raises OSError if no process can be started."""
    # Libraries write to stderr what is nobody's business. The lines of the journal get a way of their own.
    stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    with os.fdopen(stderr, "wb"):
        return Child("pipeline.flow.local_process", [stderr])


class Early:
    """The process of the local engine for a run that does not know its work yet."""

    def __init__(self, output: str | None) -> None:
        self._child = _started() if output and _is_new(output) else None

    def prepared(self, config: "Config", output: str | None) -> Child | None:
        """Return the process, which then loads torch while the run looks at its sources, if a run into `output` will
        almost surely need it. Otherwise end it, and return None."""
        if not output or not is_foreseen(config, output):
            self.close()
            return None
        self._child = self._child or _started()
        if self._child is not None:
            try:
                self._child.send(Prepare())
            except ChildDiedError:  # a later start will report why
                self._child = None
        return self._child

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None


@contextmanager
def started_early(output: str | None) -> Iterator[Early]:
    """Start the process for the block if `output`, as far as it is known, is a new or an empty folder. It imports our
    modules on another core while this process imports and reads the configuration."""
    early = Early(output)
    try:
        yield early
    finally:
        early.close()


def _started() -> Child | None:
    with suppress(OSError, ChildDiedError):  # a later start will report it
        return start()
    return None


def is_foreseen(config: "Config", output: str) -> bool:
    """Return whether a run into `output` will almost surely need the process: the output is a folder that is new or
    empty, and nothing asks for Ray. An older output may hold all that is asked for."""
    from pipeline.config import cluster_address

    if config.run.engine == "ray" or asks_for_several(config) or cluster_address(config):
        return False
    return _is_new(output)


def _is_new(output: str) -> bool:
    if "://" in output:
        return False
    try:
        return next(Path(output).iterdir(), None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def asks_for_several(config: "Config") -> bool:
    """Return whether the user asks for several workers, which only Ray has."""
    run = config.run
    return any(pool is not None and pool.has_several for pool in (run.observe, run.enrich, run.restore))
