"""One thread that owns a card and fills its batches from several spans at once.

A span is worked on by a thread of its own. It writes its samples straight into the memory of a batch, beside those of
other spans and videos, and waits for their results. A full batch runs as soon as the executor is free. A batch that is
not full runs when every span waits, because then nobody would fill it, or after a short wait. Batches have one shape,
and a row depends neither on its place nor on its neighbours, so time decides the speed and never the result.

This module does not use torch.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCHES_A_LANE = 3
"""Batches of one lane that have memory: one runs, one waits, and one is filled."""
Rows = NDArray[Any]
Write = Callable[[Rows, int], None]
"""Writes samples into the given rows, the first of which gets the sample with the given number."""


class Lane:
    """The samples of one network and of one shape, on their way into batches.

    size: samples in a batch.
    new_memory: returns memory for a batch, (size, …).
    run: runs a batch whose first rows are samples, as many as its second argument states. It returns these rows of each
        output.
    """

    def __init__(self, size: int, new_memory: Callable[[], Rows], run: Callable[[Rows, int], list[Rows]]) -> None:
        self.size, self.new_memory, self.run = size, new_memory, run
        self.num_batches = 0
        self.unused: list[Rows] = []
        self.full: deque[_Batch] = deque()
        self.filling: _Batch | None = None


@dataclass(slots=True, eq=False)
class _Request:
    """The samples that one call brings.

    num_left: samples whose results are missing.
    parts: number of a sample -> the outputs of the samples from there on, as far as they shared a batch.
    is_awaited: whether the caller waits.
    answer: the outputs of all samples.
    """

    num_left: int
    parts: dict[int, list[Rows]] = field(default_factory=dict)
    is_awaited: bool = False
    answer: "Future[list[Rows]]" = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch that is being filled, waits or runs.

    memory: its samples.
    since: seconds of time.monotonic. The first sample was promised then.
    num_taken: rows that are promised to requests.
    num_writers: calls that write into it at this moment.
    shares: request, number of its first sample here, first row, number of rows.
    """

    memory: Rows
    since: float
    num_taken: int = 0
    num_writers: int = 0
    shares: list[tuple[_Request, int, int, int]] = field(default_factory=list)


class Executor:
    """Runs the batches of any number of lanes in a thread of its own. All methods may be called by several threads.

    begin: is called in that thread before the first batch.
    patience_s: a batch runs after so many seconds, although a span that does not wait could still fill it. It keeps a
        span that reads from a slow place from holding up all others.
    """

    def __init__(self, begin: Callable[[], object] = int, *, patience_s: float) -> None:
        self._begin, self._patience_s = begin, patience_s
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []  # those with samples
        self._num_working = 0
        self._num_waiting = 0
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the caller as a span that may bring samples, during the block."""
        self._count_working(1)
        try:
            yield
        finally:
            self._count_working(-1)

    def run(self, lane: Lane, write: Write, count: int) -> list[Rows]:
        """Bring `count` samples into batches of `lane`, wait, and return their rows of each output.

        An exception of the batch is raised here, in each call that has samples in it.
        """
        request, num_written = _Request(count), 0
        while num_written < count:
            batch, first, num_rows = self._take(lane, count - num_written)
            is_written = False
            try:
                write(batch.memory[first : first + num_rows], num_written)
                is_written = True
            finally:
                with self._changed:
                    batch.num_writers -= 1
                    if is_written:
                        batch.shares.append((request, num_written, first, num_rows))
                    self._changed.notify_all()
            num_written += num_rows
        with self._changed:
            if not request.answer.done():
                self._check()
                request.is_awaited = True
                self._num_waiting += 1
                self._changed.notify_all()
        return request.answer.result()

    def _count_working(self, change: int) -> None:
        with self._changed:
            self._num_working += change
            self._changed.notify_all()

    def _take(self, lane: Lane, most: int) -> tuple[_Batch, int, int]:
        """Promise up to `most` rows of a batch to the caller. Return the batch, the first row and their number."""
        with self._changed:
            self._start()
            while lane.filling is None and not lane.unused and lane.num_batches == BATCHES_A_LANE:
                self._changed.wait()  # all batches are full, and the executor runs them
                self._check()
            if lane.filling is None:
                lane.filling = _Batch(lane.unused.pop() if lane.unused else self._new_memory(lane), time.monotonic())
                if lane not in self._lanes:
                    self._lanes.append(lane)
            batch = lane.filling
            first, num_rows = batch.num_taken, min(most, lane.size - batch.num_taken)
            batch.num_taken += num_rows
            batch.num_writers += 1
            if batch.num_taken == lane.size:
                lane.full.append(batch)
                lane.filling = None
            return batch, first, num_rows

    def _new_memory(self, lane: Lane) -> Rows:
        memory = lane.new_memory()
        lane.num_batches += 1
        return memory

    def _start(self) -> None:
        self._check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="executor", daemon=True)
            self._thread.start()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            self._begin()
            while True:
                with self._changed:
                    while (chosen := self._chosen()) is None:
                        self._changed.wait(self._patience_left_s())
                self._run(*chosen)
                del chosen  # its memory may be that of a lane that nobody needs any more
        except BaseException as error:
            self._fail(error)

    def _chosen(self) -> tuple[Lane, _Batch] | None:
        """Take the batch that has to run now, the oldest first, and full ones before others."""
        full = [(lane.full[0].since, index) for index, lane in enumerate(self._lanes) if _is_ready(lane.full)]
        if full:
            lane = self._lanes[min(full)[1]]
            return lane, lane.full.popleft()
        partial = [
            (lane.filling.since, index)
            for index, lane in enumerate(self._lanes)
            if lane.filling is not None and not lane.filling.num_writers
        ]
        if not partial or not (self._do_all_wait() or self._is_overdue(min(partial)[0])):
            return None
        lane = self._lanes[min(partial)[1]]
        batch, lane.filling = lane.filling, None
        assert batch is not None
        return lane, batch

    def _do_all_wait(self) -> bool:
        return self._num_waiting >= max(1, self._num_working)

    def _is_overdue(self, since: float) -> bool:
        return time.monotonic() - since >= self._patience_s

    def _patience_left_s(self) -> float | None:
        """Return the seconds until a batch is overdue, or None if there is none."""
        waiting = [lane.filling.since for lane in self._lanes if lane.filling is not None]
        if not waiting or self._patience_s == float("inf"):
            return None
        return max(0.001, min(waiting) + self._patience_s - time.monotonic())

    def _run(self, lane: Lane, batch: _Batch) -> None:
        outputs: list[Rows] = []
        failure: BaseException | None = None
        try:
            outputs = lane.run(batch.memory, batch.num_taken)
        except BaseException as error:
            failure = error
        with self._changed:
            for request, sample, first, num_rows in batch.shares:
                request.parts[sample] = [output[first : first + num_rows] for output in outputs]
                request.num_left -= num_rows
                if failure is not None or not request.num_left:
                    self._answer(request, failure)
            lane.unused.append(batch.memory)
            if lane.filling is None and not lane.full:
                self._lanes.remove(lane)
            self._changed.notify_all()

    def _answer(self, request: _Request, failure: BaseException | None) -> None:
        if request.answer.done():  # an earlier batch with samples of it has failed
            return
        # The caller counts as working from now on, not from the moment at which its thread goes on.
        self._num_waiting -= request.is_awaited
        if failure is not None:
            request.answer.set_exception(failure)
        else:
            parts = [request.parts[sample] for sample in sorted(request.parts)]
            request.answer.set_result(
                parts[0] if len(parts) == 1 else [np.concatenate(rows) for rows in zip(*parts, strict=True)]
            )

    def _fail(self, failure: BaseException) -> None:
        """End with an error in every call that waits, and in every later one."""
        with self._changed:
            self._failure = failure
            for lane in self._lanes:
                for batch in (*lane.full, *([lane.filling] if lane.filling else [])):
                    for request, *_ in batch.shares:
                        self._answer(request, failure)
            self._changed.notify_all()


def _is_ready(full: "deque[_Batch]") -> bool:
    return bool(full) and not full[0].num_writers
