"""Values of which each thread has its own, for libraries whose objects two threads must not share."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class PerThread(Generic[Value]):
    """Returns a value for each thread that asks, which `make` makes at its first call."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make, self._of_thread = make, threading.local()

    def __call__(self) -> Value:
        of_thread: Any = self._of_thread
        if not hasattr(of_thread, "value"):
            of_thread.value = self._make()
        return of_thread.value
