"""Threads that run models on a CPU, so that the work on one video keeps several cores busy.

The models of a stage may be called by all of them at the same time. A result depends on its own sample alone, so the
threads decide the speed and never the result.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from pipeline.arrays import Faces, Picture
from pipeline.interfaces import FaceDetector

Result = TypeVar("Result")


class ModelThreads:
    """Threads that run models beside the one that calls them.

    number: of the threads, at least 1.
    begin: prepares each of them.
    """

    def __init__(self, number: int, begin: Callable[[], object] = int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number, "models", begin)

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin `work` in one of the threads, after all work that was submitted before."""
        return self._pool.submit(work)


class DividedFaceDetector:
    """A face detector whose batches are divided among threads and the caller.

    detector: may be called by several threads.
    batch: number of crops in a call.
    """

    def __init__(self, detector: FaceDetector, batch: int, threads: ModelThreads) -> None:
        self._detector, self._batch, self._threads = detector, batch, threads

    def __call__(self, crops: Sequence[Picture], /) -> list[Faces]:
        """Return the faces of each crop, as `detector` does."""
        calls = [
            lambda some=crops[first : first + self._batch]: self._detector(some)
            for first in range(0, len(crops), self._batch)
        ]
        elsewhere = [self._threads.submit(call) for call in calls[1:]]
        try:
            here = [faces for call in calls[:1] for faces in call()]
            return here + [faces for future in elsewhere for faces in future.result()]
        finally:
            end(elsewhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


def end(futures: Sequence["Future[Any]"]) -> None:
    """Cancel what has not begun, and wait for the rest."""
    wait([future for future in futures if not future.cancel()])
