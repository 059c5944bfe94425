"""The local engine, when its worker dies, hangs or fails, or when the process that started it is gone."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.child import Child
from pipeline.config import load
from pipeline.cores.plan import PlannedSpan
from pipeline.errors import MachineError, UserError
from pipeline.flow import events as events_module
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import ChunkDone, Event, VideoDeferred, VideoDone, VideoFailed, Work
from pipeline.flow.local_child import started_early
from pipeline.flow.local_engine import WorkerDiedError, WorkerProcess, run
from pipeline.flow.local_process import At, Map, Publish, Task, TaskRunner
from pipeline.flow.pools import Maps
from pipeline.planning.spans import SpanRow, span_rows
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.reduce import VideoJob
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.flow import misdeeds
from tests.patience import eventually, has_ended

ROOT = Path(__file__).parents[2]
FILM = Film(4.0, [Walker(0, 4, x=20)])
CHUNKS = [(0, 2), (2, -1)]


def maps(ledger: Ledger, **how: Any) -> Maps:
    frames = FILM.frames()
    return misdeeds.maps(ledger, {span: chunk(FILM, frames, span) for span in CHUNKS}, **how)


class WorkerHere:
    """A worker that works in this process. A new one replaces each one that died. `given` holds all tasks so far."""

    def __init__(self, maps: Maps, *, dies_at_reduce: int = 0) -> None:
        self._maps, self._runner, self._dies = maps, TaskRunner(maps), dies_at_reduce
        self.given: list[Task] = []

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        self.given.append(task)
        try:
            if isinstance(task, Publish) and self._dies:
                self._dies -= 1
                misdeeds.vanish()
            yield from self._runner.do(task)
        except misdeeds.Gone:
            self._runner = TaskRunner(self._maps)
            raise WorkerDiedError from None


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    tables.create(Store(str(tmp_path)), keep_biometrics=False)
    return Ledger(Store(str(tmp_path)), Keys("o", "e"))


def work(ledger: Ledger, video_id: str = "v", *, is_durable: bool = False) -> Work:
    """Return the work of a whole video as one span of two chunks, or only its reduce if `is_durable`."""
    if is_durable:
        for span in CHUNKS:
            ledger.commit(video_id, span, *chunk(FILM, FILM.frames(), span))
    one = job_of(FILM, CHUNKS if is_durable else [], ledger, configured(), video_id)
    rows = span_rows(video_id, one.uri, one.probe, [PlannedSpan(0, -1, (0, 2), ())])
    return Work(job=one, rows=() if is_durable else rows)


def told(events: Sequence[Event]) -> list[tuple[str, ...]]:
    kinds = {ChunkDone: "chunk", VideoDone: "done"}
    return [
        ("failed" if isinstance(event, VideoFailed) else "deferred", event.video_id, event.stage, event.reason)
        if isinstance(event, VideoFailed | VideoDeferred)
        else (kinds[type(event)], event.published.video_id if isinstance(event, VideoDone) else event.video_id)
        for event in events
    ]


def marks(ledger: Ledger) -> list[str]:
    return [name for name in ledger.store.names("_work") if "/attempts/" in name]


DONE = [("chunk", "v"), ("chunk", "v"), ("done", "v")]


# --- a worker in this process ----------------------------------------------------------------------------------------


def test_what_only_has_to_be_reduced_comes_first_and_every_video_when_its_last_chunk_is_durable(ledger: Ledger) -> None:
    made = maps(ledger)
    all_work = [work(ledger), work(ledger, "w", is_durable=True), work(ledger, "x")]
    events = told(list(run(all_work, made, WorkerHere(made), Deferrals(()))))
    x = [(kind, "x") for kind, _ in DONE]
    assert events == [("done", "w"), *DONE, *x]
    assert not marks(ledger)


def test_a_worker_that_dies_once_is_replaced_and_what_is_durable_is_not_done_again(ledger: Ledger) -> None:
    deaths = [misdeeds.vanish]
    made = maps(ledger, committing={("v", 2): lambda: deaths.pop()() if deaths else None})
    worker = WorkerHere(made)
    assert told(list(run([work(ledger)], made, worker, Deferrals(())))) == DONE
    rows = [task.row for task in worker.given if isinstance(task, Map)]
    assert [row.durable for row in rows if isinstance(row, SpanRow)] == [(), (0,)]
    assert not marks(ledger)


@pytest.mark.parametrize(("pool", "guilty"), [("observe", "observing"), ("enrich", "committing")])
def test_a_chunk_that_kills_its_worker_is_given_up_by_the_pool_that_died_of_it(
    ledger: Ledger, pool: str, guilty: str
) -> None:
    """The pools before the guilty one only waited, so they are not blamed."""
    made = maps(ledger, **{guilty: {("v", 2): misdeeds.vanish}})
    events = told(list(run([work(ledger), work(ledger, "w")], made, WorkerHere(made), Deferrals(()))))
    reason = "its worker died 2 times (memory, a crash, or over 60 s)"
    assert events[:2] == [("chunk", "v"), ("failed", "v", pool, reason)]
    assert events[2:] == [(kind, "w") for kind, _ in DONE]


def test_a_death_in_a_chunk_that_was_observed_ahead_is_not_blamed_on_the_pool_at_work(ledger: Ledger) -> None:
    """Threads of the first pool work on chunk 2 while the second pool works on chunk 0, unless nothing works ahead."""

    def vanish_if_2_is_observed_ahead() -> None:
        task = worker.given[-1]
        if isinstance(task, Map) and isinstance(task.row, SpanRow) and 2 not in task.row.durable:
            misdeeds.vanish()

    made = maps(ledger, observing={("v", 2): misdeeds.vanish}, committing={("v", 0): vanish_if_2_is_observed_ahead})
    worker = WorkerHere(made)
    events = told(list(run([work(ledger), work(ledger, "w")], made, worker, Deferrals(()))))
    assert [event[:3] for event in events[:2]] == [("chunk", "v"), ("failed", "v", "observe")]
    assert events[2:] == [(kind, "w") for kind, _ in DONE]


def test_a_fault_of_the_data_gives_up_its_video_and_nothing_is_tried_again(ledger: Ledger) -> None:
    made = maps(ledger, observing={("v", 0): misdeeds.rot})
    worker = WorkerHere(made)
    events = told(list(run([work(ledger), work(ledger, "w")], made, worker, Deferrals(()))))
    assert events == [("failed", "v", "observe", "no picture"), *[(kind, "w") for kind, _ in DONE]]
    assert len(worker.given) == 3


def test_a_row_keeps_the_chunks_that_it_says_need_no_work(ledger: Ledger) -> None:
    """Among them are chunks whose kept faces are estimated by another row."""
    one = job_of(FILM, [], ledger, configured(), "v")
    spans = [PlannedSpan(0, -1, (0, 2), durable) for durable in ((0,), (0, 2))]
    video = Work(job=one, rows=span_rows("v", one.uri, one.probe, spans))
    (left,) = video.rows_left()
    assert left.durable == (0,)
    video.durable.add((2, -1))
    assert video.rows_left() == ()


def test_a_machine_that_lacks_something_is_no_bug_in_a_reduce(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: VideoJob, run_parts: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events_module, "reduce_video", full)
    made = maps(ledger)
    with pytest.raises(MachineError, match="No space left"):
        list(run([work(ledger, is_durable=True)], made, WorkerHere(made), Deferrals(())))


def test_a_place_that_is_asleep_for_a_while_costs_a_video_only_time(ledger: Ledger) -> None:
    failures = [misdeeds.sleep_on, misdeeds.sleep_on]
    made = maps(ledger, committing={("v", 2): lambda: failures.pop()() if failures else None})
    worker = WorkerHere(made)
    events = told(list(run([work(ledger), work(ledger, "w")], made, worker, Deferrals((0.0, 0.0)))))
    assert events == [("chunk", "v"), *[(kind, "w") for kind, _ in DONE], ("chunk", "v"), ("done", "v")]
    rows = [task.row for task in worker.given if isinstance(task, Map)]
    durable = [row.durable for row in rows if isinstance(row, SpanRow) and row.video_id == "v"]
    assert durable == [(), (0,), (0,)]
    assert not marks(ledger)


def test_a_place_that_stays_asleep_leaves_its_video_to_the_next_run(ledger: Ledger) -> None:
    made = maps(ledger, observing={("v", 2): misdeeds.sleep_on})
    events = told(list(run([work(ledger), work(ledger, "w")], made, WorkerHere(made), Deferrals((0.0,)))))
    assert events == [("chunk", "v"), *[(kind, "w") for kind, _ in DONE], ("deferred", "v", "observe", "asleep")]


def test_a_bug_in_one_reduce_gives_up_one_video_and_one_in_all_ends_the_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reduce = maps(ledger), events_module.reduce_video

    def buggy(job: VideoJob, run_parts: Any) -> Any:
        return misdeeds.err() if job.video_id in broken else reduce(job, run_parts)

    monkeypatch.setattr(events_module, "reduce_video", buggy)
    all_work = [work(ledger, video_id, is_durable=True) for video_id in "vwx"]
    broken = ["v", "x"]
    events = told(list(run(all_work, made, WorkerHere(made), Deferrals(()))))
    assert [event[:2] for event in events] == [("done", "w"), ("failed", "v"), ("failed", "x")]
    assert events[1][3].startswith("a bug: ZeroDivisionError")
    broken = ["v", "w", "x"]
    with pytest.raises(RuntimeError, match=r"(?s)ZeroDivisionError.*misdeeds"):
        list(
            run([work(ledger, video_id, is_durable=True) for video_id in "vwx"], made, WorkerHere(made), Deferrals(()))
        )


@pytest.mark.parametrize(("deaths", "expected"), [(3, DONE), (4, [*DONE[:2], ("failed", "v", "reduce")])])
def test_a_reduce_that_kills_its_worker_is_tried_again_and_at_last_given_up(
    ledger: Ledger, deaths: int, expected: list[tuple[str, ...]]
) -> None:
    made = maps(ledger)
    events = told(list(run([work(ledger)], made, WorkerHere(made, dies_at_reduce=deaths), Deferrals(()))))
    assert [event[:3] for event in events] == expected


# --- a process -------------------------------------------------------------------------------------------------------


@pytest.fixture
def start() -> Iterator[Callable[[Maps], WorkerProcess]]:
    worker: list[WorkerProcess] = []

    def made(maps: Maps) -> WorkerProcess:
        worker.append(WorkerProcess(maps))
        return worker[-1]

    yield made
    for each in worker:
        each.close()


Start = Callable[[Maps], WorkerProcess]


def test_a_crash_of_native_code_ends_a_worker_and_not_the_run(ledger: Ledger, start: Start) -> None:
    made = maps(ledger, committing={("v", 2): misdeeds.crash, ("w", 0): misdeeds.rot}, max_attempts=1)
    events = told(list(run([work(ledger), work(ledger, "w")], made, start(made), Deferrals(()))))
    assert [event[:3] for event in events] == [
        ("chunk", "v"),
        ("failed", "v", "enrich"),
        ("failed", "w", "commit"),
    ]


def test_a_hang_ends_at_the_deadline(ledger: Ledger, start: Start) -> None:
    made = maps(ledger, observing={("v", 0): misdeeds.hang}, deadline_s=0.2, max_attempts=1)
    (event,) = told(list(run([work(ledger)], made, start(made), Deferrals(()))))
    assert event == ("failed", "v", "observe", "its worker died 1 time (memory, a crash, or over 0.2 s)")


def test_a_bug_in_every_video_ends_the_run_and_says_where_it_is(ledger: Ledger, start: Start) -> None:
    made = maps(ledger, committing={("v", 0): misdeeds.err})
    with pytest.raises(RuntimeError, match="a bug: ZeroDivisionError") as raised:
        list(run([work(ledger)], made, start(made), Deferrals(())))
    assert "in commit" in str(raised.value)


@pytest.mark.parametrize(
    ("build", "told"),
    [(misdeeds.crash_at_loading, "ended 3 times while it loaded"), (misdeeds.refuse, "these are no weights")],
)
def test_models_that_cannot_be_loaded_end_the_run_with_a_line(
    ledger: Ledger, start: Start, build: Callable[[Any], Any], told: str
) -> None:
    made = maps(ledger, build=build)
    worker = start(made)
    worker.load()
    with pytest.raises(UserError, match=told):
        list(run([work(ledger)], made, worker, Deferrals(())))


@pytest.fixture
def early(tmp_path: Path) -> Iterator[Child]:
    output = str(tmp_path / "new")
    with started_early(output) as early:
        child = early.prepared(load(settings=["run.engine=local"]), output)
        assert child is not None
        yield child
    assert child._process.returncode is not None


def test_a_process_that_started_early_does_the_work(ledger: Ledger, early: Child) -> None:
    made = maps(ledger)
    worker = WorkerProcess(made, early)
    worker.load()
    assert told(list(run([work(ledger)], made, worker, Deferrals(())))) == DONE
    assert worker._child is early


def test_a_process_that_started_early_and_died_is_replaced(ledger: Ledger, early: Child) -> None:
    early.close()
    made = maps(ledger)
    worker = WorkerProcess(made, early)
    worker.load()
    assert told(list(run([work(ledger)], made, worker, Deferrals(())))) == DONE
    worker.close()


LONELY = """
import json, sys
from pipeline.flow.local_process import Map
from pipeline.flow.local_engine import WorkerProcess
from pipeline.planning.spans import SpanRow
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.flow import misdeeds
ledger = Ledger(Store(sys.argv[1]), Keys("o", "e"))
worker = WorkerProcess(misdeeds.maps(ledger, {}, observing={("v", 2): misdeeds.hang}))
for message in worker.do(Map(SpanRow(**json.loads(sys.argv[2]))), 600):
    print(worker._child._process.pid, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_worker_does_not_outlive_whom_it_works_for(ledger: Ledger, how: signal.Signals) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", LONELY, ledger.store.uri, json.dumps(asdict(work(ledger).rows[0]))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert driver.stdout is not None
    worker = psutil.Process(int(driver.stdout.readline()))
    driver.send_signal(how)
    driver.communicate()
    eventually(lambda: has_ended(worker), "the worker goes on")
