"""The process in which the local engine works. It takes one task after the other and sends the results of each.

One process does all the work of a run. It loads models and trackers once, for every video and for the reduce.
"""

import os
import pickle
import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection

import pyarrow as pa

from pipeline.child import arrivals
from pipeline.flow import journal
from pipeline.flow.events import Event, event_of, finish_video
from pipeline.flow.local_child import Prepare
from pipeline.flow.machine import this_machine
from pipeline.flow.pools import Maps
from pipeline.flow.stage import Worker
from pipeline.garbage import imports_that_stay
from pipeline.planning.spans import FacesRow, SpanRow
from pipeline.storage import event_log
from pipeline.video.job import VideoJob
from pipeline.video.parts import track_here
from pipeline.video.relink import RelinkJob


@dataclass(frozen=True, slots=True)
class Load:
    """Task: load the models that process pixels, because there will be some."""


@dataclass(frozen=True, slots=True)
class Map:
    """Task: make the chunks of a row durable.

    row: a span, or a chunk with kept faces.
    """

    row: SpanRow | FacesRow

    @property
    def of_faces(self) -> bool:
        """Whether the row is one of kept faces."""
        return isinstance(self.row, FacesRow)


@dataclass(frozen=True, slots=True)
class MapTogether:
    """Task: make the chunks of several spans durable. The first pool works on as many of them at the same time as it
    may, the later pools on one chunk after the other.

    rows: spans, of any videos.
    """

    rows: tuple[SpanRow, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Task: the last step of a video.

    last: the reduce of its chunks, or the relink of its published tables.
    """

    last: VideoJob | RelinkJob


@dataclass(frozen=True, slots=True)
class At:
    """Message: the stages of a pool are at work from now on. The pools before it wait.

    pool: index of the pool.
    """

    pool: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Message: a bug, or an error of the user.

    error: the exception, or a RuntimeError with its text if it cannot be pickled.
    trace: its traceback as text.
    """

    error: Exception
    trace: str


Task = Load | Map | MapTogether | Publish
Message = At | Event | Failed


class TaskRunner:
    """Does tasks in this process."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        if maps.events is not None:
            journal.open_journal(maps.events)
        self._workers: dict[bool, list[Worker]] = {}

    def do(self, task: Task) -> Iterator[At | Event]:
        """Yield the messages of `task`, and the events of what it makes durable."""
        if isinstance(task, Publish):
            yield finish_video(task.last, track_here)
            return
        of_faces = isinstance(task, Map) and task.of_faces
        pools = self._maps.kept_faces if of_faces else self._maps.whole
        if of_faces not in self._workers:
            threads = int(this_machine().cpus)  # nobody else works
            self._workers[of_faces] = [Worker(pool, threads=threads) for pool in pools]
            if "torch" in sys.modules:
                threading.Thread(target=_import_ahead, daemon=True).start()
        if isinstance(task, Map):
            yield from _through(self._workers[of_faces], 0, task.row.table())
        elif isinstance(task, MapTogether):
            yield At(0)
            workers = self._workers[of_faces]
            for chunk in _at_the_same_time(workers[0], task.rows, pools[0].resources.spans):
                yield from _onward(workers, 0, chunk)


def _import_ahead() -> None:
    """Import what later steps need, while the models are at work, which lets other threads run."""
    for name in ("scipy.optimize", "pipeline.video.track"):
        with suppress(Exception):  # it will be reported where it is needed
            import_module(name)


def _through(workers: Sequence[Worker], pool: int, row: pa.Table) -> Iterator[At | Event]:
    """Carry a row through this pool and the following ones, chunk by chunk."""
    yield At(pool)
    for done in workers[pool](row):
        yield from _onward(workers, pool, done)


def _onward(workers: Sequence[Worker], pool: int, done: pa.Table) -> Iterator[At | Event]:
    """Carry what `pool` has done through the following pools. Then that pool is at work again."""
    if pool + 1 == len(workers):
        yield event_of(done)
    else:
        yield from _through(workers, pool + 1, done)
        yield At(pool)


def _at_the_same_time(worker: Worker, rows: Sequence[SpanRow], num_threads: int) -> Iterator[pa.Table]:
    """Yield the chunks of all rows, as they come from so many threads. A bug in one of them is raised here."""
    to_do, chunks = deque(rows), queue.Queue[pa.Table | BaseException | None](num_threads)

    def work() -> None:
        try:
            while (row := _next_of(to_do)) is not None:
                for chunk in worker(row.table()):
                    chunks.put(chunk)
            chunks.put(None)
        except BaseException as error:
            chunks.put(error)

    for number in range(num_threads):
        threading.Thread(target=work, daemon=True, name=f"span-{number}").start()
    num_working = num_threads
    while num_working:
        chunk = chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        if chunk is None:
            num_working -= 1
        else:
            yield chunk


def _next_of(rows: "deque[SpanRow]") -> SpanRow | None:
    try:
        return rows.popleft()
    except IndexError:  # another thread has taken the last one
        return None


def serve(connection: Connection, stderr: int) -> None:
    """Receive the pools, perhaps after Prepare, then do every task that arrives. The process ends when the other side
    does, even during a task.

    stderr: number of the open file for the lines of the journal, if they are wanted there.
    """
    event_log.stderr = os.fdopen(stderr, "w")
    messages = arrivals(connection, journal.flush_before_death)
    first = next(messages)
    if isinstance(first, Prepare):
        with suppress(Exception), imports_that_stay():  # a failure will be reported when models are loaded
            import_module("pipeline.models.loading")
        first = next(messages)
    runner = TaskRunner(first)
    for task in messages:
        try:
            for message in runner.do(task):
                connection.send(message)
            connection.send(None)
        except Exception as error:
            connection.send(_failed(error))


def _failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error))
    try:
        return Failed(pickle.loads(pickle.dumps(error)), trace)
    except Exception:  # it holds something that cannot be pickled
        return Failed(RuntimeError(str(error)), trace)
