"""Probe containers in processes beside this one, so that no file can take this one down."""

from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Self

from pipeline.child import Child, ChildDiedError
from pipeline.errors import DataError
from pipeline.media.probe import Probe
from pipeline.storage import faults, remote

DEADLINE_S = 300.0
"""Longest time in seconds that a probe may take. It begins anew with each request that is repeated."""
DEATHS = 2
"""Number of processes that a file may kill. Now and then one dies of what another process does to the machine."""
START_S = 600.0
"""Longest time in seconds that a process may take to start, on a machine that is busy."""
CHILD = "pipeline.planning.probe_child"


@dataclass(frozen=True, slots=True)
class Ready:
    """Message: the process has started."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Message: a request to the place of the file is repeated.

    kind, why, wait_s: as in faults.retry_listeners.
    """

    kind: str
    why: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Message: the end of a probe.

    outcome: the facts, or the error that prevents them.
    num_read: bytes read from a remote place.
    """

    outcome: Probe | Exception
    num_read: int = 0


class ProbeBugError(DataError):
    """A file on which the probe fails as nobody foresaw. The second argument is the traceback."""

    def __str__(self) -> str:
        return str(self.args[0])


class ProbePool:
    """Processes that probe. They start when they are needed, each for one thread at a time, and end with the block."""

    def __init__(self) -> None:
        self._idle: SimpleQueue[_Prober] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def probe(self, uri: str) -> Probe:
        """Probe the container of a source. Raises DataError with the reason if that fails or ends its process, and
        the errors of `source_files.opener`."""
        reason = ""
        for _ in range(DEATHS):
            prober = self._taken()
            try:
                outcome = prober.probe(uri)
            except ChildDiedError as death:
                if death.is_late:
                    raise DataError(f"reading its header {death}") from None
                reason = str(death)
                continue
            except BaseException:
                prober.close()
                raise
            self._idle.put(prober)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        raise DataError(f"the process that read its header {reason}, {DEATHS} times; the file may be made to do harm")

    def _taken(self) -> "_Prober":
        try:
            return self._idle.get_nowait()
        except Empty:
            return _Prober()


class _Prober:
    """A process that probes. It raises ChildDiedError when it dies, and must not be used after that."""

    def __init__(self) -> None:
        self._child, self._is_ready = Child(CHILD), False
        self.close = self._child.close

    def probe(self, uri: str) -> Probe | Exception:
        """Return the facts about a source, or the error that prevents them."""
        self._child.send(uri)
        while not isinstance(message := self._child.receive(DEADLINE_S if self._is_ready else START_S), Answer):
            if isinstance(message, Repeated):
                for tell in faults.retry_listeners:
                    tell(message.kind, message.why, message.wait_s)
            self._is_ready = True
        for tell in remote.read_listeners:
            tell(message.num_read)
        return message.outcome
