"""Carry out tasks in processes of this machine. It imports little, because every process does so anew."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

from pipeline.errors import DataError

TRIES = 3
WORKER_DIED = f"its worker died {TRIES} times (memory, or a crash)"
Result = TypeVar("Result")


class LocalTasks:
    """Processes of this machine, one per task that runs. A process that dies takes no other one along."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._threads = ThreadPoolExecutor(num_workers)
        self._of_thread = threading.local()
        # The processes end themselves when this end is closed, also if this process is killed.
        self._watched, self._held = multiprocessing.Pipe(duplex=False)

    def submit(self, task: Callable[[], Result]) -> "Future[Result]":
        """Start a task as Tasks states."""
        return self._threads.submit(self._do, task)

    def close(self) -> None:
        """End the processes at once. What they were doing is lost."""
        self._held.close()
        self._threads.shutdown(cancel_futures=True)
        self._watched.close()

    def _do(self, task: Callable[[], Result]) -> Result:
        for _ in range(TRIES):
            pool: ProcessPoolExecutor | None = getattr(self._of_thread, "pool", None)
            if pool is None:
                pool = self._of_thread.pool = ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(self._watched,)
                )
            try:
                return pool.submit(task).result()
            except BrokenProcessPool:
                self._of_thread.pool = None
                if self._held.closed:
                    break
        raise DataError(WORKER_DIED)


def _prepare(watched: Connection) -> None:
    """Prepare a new process: it is silent, leaves Ctrl-C to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # encoders write there
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    try:
        watched.recv()
    except (EOFError, OSError):
        os._exit(1)
