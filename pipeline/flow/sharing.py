"""How several rows share one worker: who may work beside others, whose time it is, and when a row takes too long."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """Lets rows work beside each other, or one of them alone. A row that wants to be alone is the next to begin."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_beside = 0
        self._is_alone = False
        self._num_wanting = 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Wait until no row is or wants to be alone, and work beside others during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone and not self._num_wanting)
            self._num_beside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_beside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other row works, and keep all others waiting during the block."""
        with self._changed:
            self._num_wanting += 1
            self._changed.wait_for(lambda: not self._is_alone and not self._num_beside)
            self._num_wanting -= 1
            self._is_alone = True
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()


class SharedClock:
    """A clock for the time of a worker. While several rows work, each gets its share of every second."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._lock = now, threading.Lock()
        self._num_working = 0
        self._shared_s = 0.0
        self._since = now()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the caller as a row at work during the block."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def read(self) -> float:
        """Return the seconds that have passed for each row at work, from an arbitrary moment."""
        with self._lock:
            return self._read()

    def _read(self) -> float:
        now = self._now()
        self._shared_s += (now - self._since) / max(1, self._num_working)
        self._since = now
        return self._shared_s

    def _count(self, change: int) -> None:
        with self._lock:
            self._read()
            self._num_working += change


class Watchdog:
    """Calls `end` when a block takes longer than the deadline. Nothing else stops native code that hangs."""

    def __init__(self, deadline_s: float, end: Callable[[], object]) -> None:
        self._deadline_s, self._end = deadline_s, end

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch one block. Several threads may each have one."""
        timer = threading.Timer(self._deadline_s, contextvars.copy_context().run, (self._end,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
