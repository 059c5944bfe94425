"""Stages as values, and the worker that carries out the stages of one pool. This module does not use Ray.

A stage extends a row, and one row is one chunk. The stage gets the columns that it `needs` and returns those that it
`adds`. The columns that it `drops` are removed afterwards. It cannot see, change or lose any other column.
Consecutive stages of one pool share a worker.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from pipeline.errors import BUG, CardError, DataError, PassingError, described_bug, raise_of_all
from pipeline.flow import journal, loading, metrics
from pipeline.flow.nodes import Attempt, Nodes, OneMachine
from pipeline.flow.sharing import SharedClock, Turns, Watchdog
from pipeline.rows import CHUNK, SPAN, blank, conform
from pipeline.storage.event_log import EventTarget
from pipeline.storage.ledger import ChunkSpan, Ledger
from pipeline.text import storable

WORKER_DIED = "WorkerDied"
"""The kind of the failure of a chunk or video whose worker died."""
NODE_LOST = "NodeLost"
"""The kind of the death of a worker together with its node, which is not the fault of its work."""
ALREADY_DURABLE = "AlreadyDurable"
"""The kind of the note on a chunk that an earlier attempt has made durable. Like a failure, it keeps all stages from
working on the row."""
Core = Callable[[pa.Table], pa.Table]
Splitter = Callable[[pa.Table], Iterator[pa.Table]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the flow, as a value.

    name: unique in the flow. It appears in timings and errors.
    build: makes the core. It runs once in each worker and loads the weights there.
    needs: the columns that the core gets.
    adds: the columns that the core returns.
    drops: names of the columns that are removed after the stage.
    splits: whether the core is a generator that makes rows of CHUNK + `adds` from one row of another kind. Only the
        first stage of a pool can split.
    takes_threads: whether `build` takes the number of threads that may run models at the same time on a CPU.
    """

    name: str
    build: Callable[..., Any]
    needs: pa.Schema
    adds: pa.Schema
    drops: tuple[str, ...] = ()
    splits: bool = False
    takes_threads: bool = False

    def built(self, threads: int) -> Any:
        """Return the core."""
        return self.build(threads=threads) if self.takes_threads else self.build()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The resources of one worker of a pool.

    num_cpus: CPU cores.
    num_gpus: GPUs. A fraction is only bookkeeping. The worker shares the card and its whole memory with others.
    min_workers: least number of workers of the pool.
    max_workers: greatest number of workers of the pool.
    spans: greatest number of rows that a worker works on at the same time, each in a thread.
    threads: number of threads in which a row may run models at the same time on a CPU. 0: in none but its own.
    """

    num_cpus: float
    num_gpus: float
    min_workers: int
    max_workers: int
    spans: int = 1
    threads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The time and the number of tries for a chunk before the run gives it up.

    ledger: counts the attempts.
    run_id: the run whose attempts count.
    max_attempts: tries of one chunk.
    deadline_s: seconds for one chunk.
    events: where the worker writes what happens, or None.
    """

    ledger: Ledger
    run_id: str
    max_attempts: int
    deadline_s: float
    events: EventTarget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOfStages:
    """Consecutive stages that share workers.

    name: of the pool.
    stages: at least one, in order.
    resources: of one worker, and the number of workers.
    limits: for each chunk.
    """

    name: str
    stages: tuple[Stage, ...]
    resources: Resources
    limits: Limits


class Worker:
    """The stages of a pool, applied to one row at a time, or to `spans` rows by as many threads. Ray makes one worker
    per actor, the local engine one per pool. A test makes one directly.

    If a worker dies, all of its rows are repeated, and nobody knows which of them is at fault. So a row is repeated
    alone, and only the death of a row alone is fully charged to it.

    threads: number of threads in which a row may run models at the same time on a CPU. None: that of the pool.
    """

    def __init__(self, pool: PoolOfStages, nodes: Nodes | None = None, threads: int | None = None) -> None:
        self._pool, self._nodes = pool, nodes or OneMachine()
        self._cores: list[Any] = []
        num_threads = pool.resources.threads if threads is None else threads
        self._failure: Exception | None = None
        if pool.limits.events is not None:
            journal.open_journal(pool.limits.events)
        started, ledger, run_id = time.perf_counter(), pool.limits.ledger, pool.limits.run_id
        try:
            number = loading.check_deaths(ledger, run_id, pool.name, self._nodes)
            self._cores = loading.load(lambda: [stage.built(num_threads) for stage in pool.stages], pool.name)
            loading.end_loading(ledger, run_id, pool.name, self._nodes, number)
            journal.note("worker_began", pool=pool.name, seconds=round(time.perf_counter() - started, 3))
        except Exception as error:
            self._failure = error  # Ray keeps only the text of an exception that a constructor raises
        too_long = f"the chunk takes longer than {pool.limits.deadline_s:g} s, so its worker ends itself"
        self._watchdog = Watchdog(pool.limits.deadline_s, lambda: _end_process("Deadline", too_long))
        self._turns, self._clock = Turns(), SharedClock()
        self._num_in_flight, self._counting = 0, threading.Lock()

    def __call__(self, row: pa.Table) -> Iterator[pa.Table]:
        if self._failure is not None:
            raise self._failure
        if row.num_rows != 1:
            raise ValueError(f"a row must travel alone, got {row.num_rows} rows")
        video_id, first_cell = row["video_id"][0].as_py(), row["first_cell"][0].as_py()
        with ExitStack() as turn:
            yield from self._work_on(row, video_id, first_cell, turn)

    def _work_on(self, row: pa.Table, video_id: str, first_cell: int, turn: ExitStack) -> Iterator[pa.Table]:
        limits, name = self._pool.limits, self._pool.name
        uri = row["uri"][0].as_py() if "uri" in row.column_names else ""
        work = {"pool": name, "video": video_id, "chunk": first_cell, "hidden": uri or ""}
        try:
            with journal.working_on(**work):
                key = (video_id, limits.run_id, name, first_cell)
                num_marks = self._begin(key, turn)
                attempt = Attempt.after(limits.ledger.marks_of_attempts(*key, num_marks - 1), self._nodes)
        except PassingError as fault:
            with journal.working_on(**work):
                error = _error(name, fault)
            yield from self._refuse_all(row, error)
            return
        work["attempt"] = num_marks
        with journal.working_on(**work):
            _note_attempt(num_marks, attempt)
        if attempt.number > limits.max_attempts:
            reason = f"its worker died {attempt.deaths} (memory, a crash, or over {limits.deadline_s:g} s)"
            yield from self._refuse_all(row, {"stage": name, "kind": WORKER_DIED, "message": reason})
            return
        chunks = self._run_rest(row) if num_marks > 1 and self._has_chunks(row) else self._run(row)
        self._count_in_flight(1)
        try:
            while (chunk := self._next(chunks, work)) is not None:
                yield _with(chunk, "attempts", max(attempt.number, chunk["attempts"][0].as_py() or 0))
        finally:
            self._count_in_flight(-1)
        with suppress(PassingError):  # a mark that stays counts as an attempt, and the run removes it at its end
            limits.ledger.end_attempts(*key, num_marks)

    def _begin(self, key: tuple[str, str, str, int], turn: ExitStack) -> int:
        """Wait for the turn of a row, and mark an attempt. Return the number of its attempts."""
        ledger, here = self._pool.limits.ledger, self._nodes.here()
        if self._pool.resources.spans > 1:
            with ExitStack() as beside:
                beside.enter_context(self._turns.beside_others())
                if ledger.begin_first_attempt(*key, here):
                    turn.enter_context(beside.pop_all())
                    return 1
            turn.enter_context(self._turns.alone())
        return ledger.begin_attempt(*key, here)

    def _count_in_flight(self, change: int) -> None:
        with self._counting:
            self._num_in_flight += change
            metrics.set_value("rollcall_in_flight", self._num_in_flight)

    def _next(self, chunks: Iterator[pa.Table], work: Mapping[str, Any]) -> pa.Table | None:
        # Neither clock runs while a consumer keeps this row waiting.
        with journal.working_on(**work), self._watchdog.watching(), self._clock.working():
            try:
                return next(chunks, None)
            except CardError as error:
                _end_process(type(error).__name__, f"the card fails, so its worker ends itself: {error}")
                raise

    def _run(self, row: pa.Table) -> Iterator[pa.Table]:
        stages = list(zip(self._pool.stages, self._cores, strict=True))
        if stages[0][0].splits:
            split, core = stages.pop(0)
            started = self._clock.read()
            try:
                chunks = core(conform(row.select(split.needs.names), split.needs))
                while (chunk := _next_of(chunks, split.name)) is not None:
                    yield self._extend(self._charge(chunk, split.name, started), stages)
                    started = self._clock.read()
            except Exception as fault:
                yield from self._refuse(row, _error(split.name, fault))
        else:
            yield self._extend(row, stages)

    def _run_rest(self, row: pa.Table) -> Iterator[pa.Table]:
        """Yield the chunks of a span that an earlier attempt has begun. Those that are durable need no models.

        Ray counts the rows of a task and drops those that an earlier attempt has yielded already. So every attempt
        yields as many rows in the same order, and a durable chunk has a row that only says so.
        """
        span = row.to_pylist()[0]
        left = _chunks_left(span)
        made = set(self._pool.limits.ledger.durable_of(span["video_id"])) & set(left)
        durable = [*span["durable"], *sorted(first for first, _ in made)]
        # Ray Data gives the type list<null> to the column of a row in which nothing is durable.
        column = pa.array([durable], SPAN.field("durable").type)
        rest = row.set_column(row.column_names.index("durable"), "durable", column)
        chunks = self._run(rest) if len(made) < len(left) else iter(())
        failure = None
        for ends in left:
            if ends in made:
                yield from self._refuse(_chunk_of(span, ends), {"stage": "", "kind": ALREADY_DURABLE, "message": ""})
            elif (chunk := next(chunks, None)) is not None:
                failure = chunk["error"][0].as_py()
                yield chunk
            elif failure is not None:
                yield from self._refuse(_chunk_of(span, ends), failure)
        yield from chunks

    def _has_chunks(self, row: pa.Table) -> bool:
        """Return whether a row is a span, which names its chunks."""
        return self._pool.stages[0].splits and "durable" in row.column_names

    def _refuse_all(self, row: pa.Table, error: dict[str, str]) -> Iterator[pa.Table]:
        """Yield the row with its error, a span once for each of its chunks. Ray drops as many rows as an earlier
        attempt has yielded, and the error must not be among them."""
        span = row.to_pylist()[0]
        for each in [_chunk_of(span, ends) for ends in _chunks_left(span)] if self._has_chunks(row) else [row]:
            yield from self._refuse(each, error)

    def _extend(self, row: pa.Table, stages: list[tuple[Stage, Core]]) -> pa.Table:
        for stage, core in stages:
            started = self._clock.read()
            added = blank(stage.adds, 1)
            if not row["error"][0].is_valid:
                try:
                    with journal.working_on(stage=stage.name):
                        added = core(conform(row.select(stage.needs.names), stage.needs))
                    added = conform(added, stage.adds)
                    if added.num_rows != 1:
                        raise TypeError(f"stage {stage.name}: 1 row in, {added.num_rows} out")
                except Exception as fault:
                    row = _with(row, "error", _error(stage.name, fault))
            row = row.drop_columns([name for name in row.column_names if name in {*stage.drops, *added.column_names}])
            for column in added.schema:
                row = row.append_column(column, added[column.name])
            row = self._charge(row, stage.name, started)
        return row

    def _charge(self, row: pa.Table, stage: str, started: float) -> pa.Table:
        """Add the time since `started` to the timings of the row: its share, if the worker has several rows."""
        elapsed = self._clock.read() - started
        spent = {"stage": stage, "seconds": elapsed, "gpu_seconds": elapsed * self._pool.resources.num_gpus}
        return _with(row, "timings", [*(row["timings"][0].as_py() or []), spent])

    def _refuse(self, row: pa.Table, error: dict[str, str]) -> Iterator[pa.Table]:
        """Yield the row with its error and with every column that a successful row would have by now."""
        columns = {name: row[name][0].as_py() for name in CHUNK.names if name in row.column_names}
        columns |= {"error": error, "attempts": 0}
        refused = pa.table({f.name: pa.array([columns.get(f.name)], f.type) for f in CHUNK}, schema=CHUNK)
        carried = [] if self._pool.stages[0].splits else [f for f in row.schema if f.name not in CHUNK.names]
        for field in carried:
            refused = refused.append_column(field, pa.nulls(1, field.type))
        for stage in self._pool.stages:
            gone = {*stage.drops, *stage.adds.names}
            refused = refused.drop_columns([name for name in refused.column_names if name in gone])
            for field in stage.adds:
                refused = refused.append_column(field, pa.nulls(1, field.type))
        yield refused


def _end_process(kind: str, message: str) -> None:
    """End this process, whatever its threads do. Its rows are repeated."""
    journal.note("worker_ended", "error", kind=kind, message=message)
    journal.flush_before_death()
    os._exit(1)


def _chunks_left(span: Mapping[str, Any]) -> list[ChunkSpan]:
    """Return the chunks of a span that another run has not made durable."""
    return [ends for ends in pairwise((*span["borders"], span["end_cell"])) if ends[0] not in span["durable"]]


def _chunk_of(span: Mapping[str, Any], ends: ChunkSpan) -> pa.Table:
    """Return the row of one chunk of a span that names nothing else."""
    return pa.table({"video_id": [span["video_id"]], "first_cell": [ends[0]], "end_cell": [ends[1]]})


def _next_of(chunks: Iterator[pa.Table], stage: str) -> pa.Table | None:
    with journal.working_on(stage=stage):
        return next(chunks, None)


def _note_attempt(num_marks: int, attempt: Attempt) -> None:
    """Write to the journal that an attempt begins. A second or later one means that the worker of the one before it
    died."""
    if num_marks > 1:
        kind = NODE_LOST if attempt.is_after_loss else WORKER_DIED
        died = f"an earlier attempt left no result: its {'node went' if attempt.is_after_loss else 'worker died'}"
        journal.note("worker_died", "warning", attempt=num_marks - 1, kind=kind, message=died)
        metrics.count("rollcall_retries_total", kind=kind)
    journal.note("chunk_began")


def _error(stage: str, fault: Exception) -> dict[str, str]:
    """Return the value of the column `error`, and write the failure down. The message of a bug ends with its traceback.

    Raises an error that concerns all videos.
    """
    details = ""
    if isinstance(fault, DataError | PassingError):
        kind, message = type(fault).__name__, storable(str(fault))
    else:
        raise_of_all(fault)
        kind, message = BUG, storable(described_bug(fault))
        details = "\n" + storable("".join(traceback.format_exception(fault)))
    journal.note("chunk_failed", "warning", stage=stage, kind=kind, message=message)
    metrics.count("rollcall_chunks_total", outcome="failed")
    return {"stage": stage, "kind": kind, "message": message + details}


def _with(row: pa.Table, name: str, value: Any) -> pa.Table:
    """Return the row with another value in a column of CHUNK."""
    field = CHUNK.field(name)
    return row.set_column(row.column_names.index(name), field, pa.array([value], field.type))
