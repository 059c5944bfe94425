"""A process of ours beside this one, which receives messages and answers them.

A crash of native code, a hang or a lack of memory in it ends only that process. It ends when this process does.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from pipeline import malloc

PROGRAM = """
import sys
from importlib import import_module
from multiprocessing.connection import Connection
from pipeline.garbage import imports_that_stay
with imports_that_stay():
    module = import_module(sys.argv[1])
module.serve(Connection(int(sys.argv[2])), *map(int, sys.argv[3:]))
"""
DEATH_S = 2.0
"""Seconds in which a process whose connection has ended may end itself."""


class ChildDiedError(Exception):
    """The process has ended or was ended, and has left no answer. The text says how.

    is_late: whether it was ended because it took too long.
    """

    def __init__(self, how: str, *, is_late: bool = False) -> None:
        super().__init__(how)
        self.is_late = is_late


class Child:
    """A process that calls the function `serve` of a module with its end of the connection, and with the numbers of
    open files.

    module: name of the module. It is imported in the process.
    files: numbers of files that are open here and stay open there.
    """

    def __init__(self, module: str, files: Sequence[int] = ()) -> None:
        self._connection, theirs = Pipe()
        path = os.pathsep.join(place for place in sys.path if place)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, module, str(theirs.fileno()), *map(str, files)],
                pass_fds=[theirs.fileno(), *files],
                # Ray sets this for its workers too. It is for libraries that get no number of threads from Loader.
                env={"OMP_NUM_THREADS": "1"} | malloc.ENVIRONMENT | os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the other one
            )

    def send(self, message: Any) -> None:
        """Send a message. Raises ChildDiedError, after which the process is gone."""
        try:
            self._connection.send(message)
        except OSError:
            raise ChildDiedError(self._death()) from None

    def receive(self, patience_s: float | None = None) -> Any:
        """Return the next message of the process. End the process and raise ChildDiedError if it ends, or if no
        message arrives for `patience_s`."""
        try:
            if self._connection.poll(patience_s):
                return self._connection.recv()
        except (EOFError, OSError):
            raise ChildDiedError(self._death()) from None
        self.close(DEATH_S)
        raise ChildDiedError(f"took longer than {patience_s:g} s", is_late=True)

    def close(self, grace_s: float = 0.0) -> None:
        """End the process at once, or after `grace_s` in which it may end itself."""
        self._connection.close()  # it ends itself then
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._process.kill()
        self._process.wait()

    def _death(self) -> str:
        """Return how the process has died. Wait for its end."""
        self.close(DEATH_S)
        status = self._process.returncode
        if status >= 0:
            return f"ended with status {status}"
        with suppress(ValueError):
            return f"crashed with signal {-status} ({signal.Signals(-status).name})"
        return f"crashed with signal {-status}"


def arrivals(connection: Connection, before_death: Callable[[], None] = lambda: None) -> Iterator[Any]:
    """Yield the messages that arrive, in the process itself. The process ends when the other side does, even during
    its work. It watches the other side from this call on. `before_death` is called then."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def receive() -> None:
        try:
            while True:
                waiting.put(connection.recv())
        except (EOFError, OSError):
            before_death()
            os._exit(1)

    threading.Thread(target=receive, daemon=True).start()
    return iter(waiting.get, object())
