"""The local engine with several spans at a time: the same bytes, and a death that is blamed on one chunk only."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.cores.plan import PlannedSpan
from pipeline.flow import local_engine
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import ChunkDone, Event, VideoDone, VideoFailed, Work
from pipeline.flow.local_engine import LocalWorker, WorkerProcess, run
from pipeline.flow.pools import Maps
from pipeline.planning.spans import span_rows
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.flow import misdeeds
from tests.flow.test_local_engine import WorkerHere
from tests.interruptions import contents

FILM = Film(3.0, [Walker(0, 3, x=20)])
CHUNKS = [(0, 1), (1, 2), (2, -1)]
VIDEOS = ["v0", "v1", "v2"]
FATAL = ("v1", 1)


def created(place: Path) -> Ledger:
    store = Store(str(place))
    tables.create(store, keep_biometrics=False)
    return Ledger(store, Keys("o", "e"))


def carried_out(
    ledger: Ledger, spans: int, make: Callable[[Maps], LocalWorker] = WorkerProcess, **how: Any
) -> list[Event]:
    """Carry out the work on all videos, so many spans at a time."""
    made = misdeeds.maps(ledger, {span: chunk(FILM, FILM.frames(), span) for span in CHUNKS}, **how)
    observing, *others = made.whole
    pools = [replace(observing, resources=replace(observing.resources, spans=spans)), *others]
    todo = []
    for video_id in VIDEOS:
        job = job_of(FILM, [], ledger, configured(), video_id)
        planned = [PlannedSpan(0, 2, (0, 1), ()), PlannedSpan(2, -1, (2,), ())]
        todo.append(Work(job=job, rows=span_rows(video_id, job.uri, job.probe, planned)))
    maps = Maps(pools, pools)
    worker = make(maps)
    try:
        return list(run(todo, maps, worker, Deferrals(())))
    finally:
        if isinstance(worker, WorkerProcess):
            worker.close()


def lasting(ledger: Ledger) -> dict[str, bytes]:
    return {name: file for name, file in contents(Path(ledger.store.uri)).items() if not name.startswith("_work/")}


def test_several_spans_at_a_time_overlap_and_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_engine, "ROUNDS", 1)  # two portions
    times = tmp_path / "times"
    times.mkdir()
    slow = {(video_id, first): partial(misdeeds.note_times, times, 0.1) for video_id in VIDEOS for first, _ in CHUNKS}
    one, several = created(tmp_path / "one"), created(tmp_path / "several")
    expected = carried_out(one, 1, WorkerHere)
    events = carried_out(several, 3, WorkerHere, observing=slow)
    assert [len([e for e in each if isinstance(e, VideoDone)]) for each in (expected, events)] == [len(VIDEOS)] * 2
    assert len([event for event in events if isinstance(event, ChunkDone)]) == len(VIDEOS) * len(CHUNKS)
    assert lasting(several) == lasting(one)
    assert 2 <= misdeeds.most_at_once(times) <= 3


@pytest.mark.slow
def test_a_chunk_that_kills_the_process_is_found_alone_and_its_neighbours_are_not_blamed(tmp_path: Path) -> None:
    one, several = created(tmp_path / "one"), created(tmp_path / "several")
    carried_out(one, 1)
    events = carried_out(several, 3, observing={FATAL: misdeeds.crash}, max_attempts=2)
    (failed,) = [event for event in events if isinstance(event, VideoFailed)]
    assert (failed.video_id, failed.kind) == (FATAL[0], "WorkerDied")
    assert failed.reason.startswith("its worker died 3 times, 1 of them beside other chunks (")
    assert {event.attempts for event in events if isinstance(event, ChunkDone)} == {1}
    theirs = lasting(one)
    assert {name for name, content in lasting(several).items() if content != theirs.get(name)} == set()
    assert len([event for event in events if isinstance(event, VideoDone)]) == len(VIDEOS) - 1


@pytest.mark.slow
def test_a_chunk_that_kills_the_process_in_a_later_pool_is_blamed_alone(tmp_path: Path) -> None:
    several = created(tmp_path / "several")
    events = carried_out(several, 3, committing={FATAL: misdeeds.crash}, max_attempts=2)
    (failed,) = [event for event in events if isinstance(event, VideoFailed)]
    assert (failed.video_id, failed.stage) == (FATAL[0], "enrich")
    assert failed.reason.startswith("its worker died 2 times (")
    assert {event.attempts for event in events if isinstance(event, ChunkDone)} == {1}
    assert len([event for event in events if isinstance(event, VideoDone)]) == len(VIDEOS) - 1
