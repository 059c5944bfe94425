"""The process in which the local engine works: it takes one task after the other, and tells what comes of each.

All of a run is done by one hand: it loads models and trackers once, for every video and for the reduce.
"""

import json
import os
import pickle
import queue
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import pyarrow as pa

from pipeline.stages.base import Worker
from pipeline.stages.events import Event, carry_out, event_of
from pipeline.stages.flow import Maps, RowOfSpan
from pipeline.stages.reduce import Job
from pipeline.stages.relink import Again, track_here


@dataclass(frozen=True, slots=True)
class Load:
    """Load the models that look at pixels: there will be some."""


@dataclass(frozen=True, slots=True)
class Map:
    """Make the chunks of a row durable: of a span, or of faces that are kept."""

    row: RowOfSpan
    of_faces: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """The last step of a video."""

    last: Job | Again


@dataclass(frozen=True, slots=True)
class At:
    """The stages of the pool of this index are at work from now on; those before it wait."""

    pool: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A bug, or a mistake of the user."""

    error: Exception
    told: str


Task = Load | Map | Publish
Message = At | Event | Failed


class Hand:
    """Does tasks in this process."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._workers: dict[bool, list[Worker]] = {}

    def do(self, task: Task) -> Iterator[At | Event]:
        if isinstance(task, Publish):
            yield carry_out(task.last, track_here)
            return
        of_faces = isinstance(task, Map) and task.of_faces
        pools = self._maps.kept_faces if of_faces else self._maps.whole
        if of_faces not in self._workers:
            self._workers[of_faces] = [Worker(pool) for pool in pools]
        if isinstance(task, Map):
            row = pa.Table.from_pylist([json.loads(task.row)], pools[0].stages[0].needs)
            yield from _through(self._workers[of_faces], 0, row)


def _through(workers: Sequence[Worker], pool: int, row: pa.Table) -> Iterator[At | Event]:
    """Carry a row through the pools from this one on, chunk by chunk."""
    yield At(pool)
    for done in workers[pool](row):
        if pool + 1 == len(workers):
            yield event_of(done)
        else:
            yield from _through(workers, pool + 1, done)
            yield At(pool)


def serve(connection: Connection) -> None:
    """Do what comes: first the pools, then tasks. Ends when the other side does, whatever is being done."""
    arrivals: queue.SimpleQueue[Task] = queue.SimpleQueue()
    hand = Hand(connection.recv())
    threading.Thread(target=_receive, args=(connection, arrivals), daemon=True).start()
    while True:
        task = arrivals.get()
        try:
            for message in hand.do(task):
                connection.send(message)
            connection.send(None)
        except Exception as error:
            connection.send(_failed(error))


def _receive(connection: Connection, arrivals: "queue.SimpleQueue[Task]") -> None:
    try:
        while True:
            arrivals.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)


def _failed(error: Exception) -> Failed:
    told = "".join(traceback.format_exception(error))
    try:
        return Failed(pickle.loads(pickle.dumps(error)), told)
    except Exception:  # it is made of what cannot travel
        return Failed(RuntimeError(str(error)), told)
