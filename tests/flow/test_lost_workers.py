"""Nodes that are taken away and workers that are killed in a run on a real Ray cluster: no byte changes, and nobody is
blamed who is not to blame."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.cores.plan import PlannedSpan
from pipeline.errors import MachineError
from pipeline.flow import ray_engine
from pipeline.flow.events import ChunkDone, Event, VideoDone, VideoFailed, Work
from pipeline.flow.pools import Maps
from pipeline.flow.stage import Resources
from pipeline.planning.spans import span_rows
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.parts import track_here
from pipeline.video.reduce import reduce_video
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.flow import misdeeds
from tests.interruptions import contents
from tests.patience import eventually
from tests.ray_cluster import Nodes, ray_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]
FILM = Film(6.0, [Walker(0, 6, x=20), Walker(1, 5, x=300, look=2)], cuts=[3.0])
CHUNKS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, -1)]
POOLS = ("observe", "find_faces", "restore_faces", "estimate")
WORKS_S = 0.8


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_cluster() as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    store = Store(str(tmp_path / "out"))
    tables.create(store, keep_biometrics=False)
    return Ledger(store, Keys("o", "e"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("undisturbed")
    store = Store(str(place))
    tables.create(store, keep_biometrics=False)
    ledger = Ledger(store, Keys("o", "e"))
    for span in CHUNKS:
        ledger.commit("v", span, *chunk(FILM, FILM.frames(), span))
    reduce_video(job_of(FILM, CHUNKS, ledger, configured()), track_here)
    return contents(place)


def maps(ledger: Ledger, notes: Path, *, max_attempts: int = 1, **how: Any) -> Maps:
    """Return four pools, each of which writes down where it works and takes its time."""
    slow = {
        pool: {
            ("v", first): partial(misdeeds.note_and_sleep, notes / f"{pool}-{first}", WORKS_S) for first, _ in CHUNKS
        }
        for pool in POOLS
    }
    made = misdeeds.maps(
        ledger,
        {span: chunk(FILM, FILM.frames(), span) for span in CHUNKS},
        observing=slow["observe"],
        between={pool: slow[pool] for pool in POOLS[1:3]},
        committing=slow["estimate"],
        max_attempts=max_attempts,
        **how,
    )
    resources = Resources(num_cpus=0.25, num_gpus=0, min_workers=1, max_workers=2)
    return Maps([replace(pool, resources=resources) for pool in made.whole], [])


def work(ledger: Ledger, *, is_durable: bool = False) -> Work:
    if is_durable:
        for span in CHUNKS:
            ledger.commit("v", span, *chunk(FILM, FILM.frames(), span))
    job = job_of(FILM, CHUNKS if is_durable else [], ledger, configured())
    firsts = tuple(first for first, _ in CHUNKS)
    rows = span_rows("v", job.uri, job.probe, [PlannedSpan(0, -1, firsts, ())])
    return Work(job=job, rows=() if is_durable else rows)


def slow_reduce(ledger: Ledger, note: Path) -> Work:
    """Return the work of a video whose reduce writes down where it works, and takes its time."""
    todo = work(ledger, is_durable=True)
    todo.job = replace(todo.job, ledger=replace(ledger, store=misdeeds.SlowStore(ledger.store.uri, str(note))))
    return todo


def run_with(disturb: Callable[[], None], todo: Work, made: Maps) -> list[Event]:
    """Carry out the work while `disturb` runs beside it."""
    failures: list[BaseException] = []

    def disturb_once() -> None:
        try:
            disturb()
        except BaseException as failure:
            failures.append(failure)

    beside = threading.Thread(target=disturb_once)
    beside.start()
    events = list(ray_engine.run([todo], made.whole, configured()))
    beside.join()
    assert not failures, failures
    return events


def noted(notes: Path, what: str) -> Any:
    """Return the node and the process that were at work, once there are some."""

    def find() -> Any:
        try:
            return json.loads((notes / what).read_text())
        except (FileNotFoundError, ValueError):
            return None

    return eventually(find)


def check(events: Sequence[Event], ledger: Ledger, expected: dict[str, bytes], attempts: int = 1) -> None:
    assert [event for event in events if isinstance(event, VideoFailed)] == []
    assert isinstance(events[-1], VideoDone)
    assert max((event.attempts for event in events if isinstance(event, ChunkDone)), default=1) == attempts
    assert contents(Path(ledger.store.uri)) == expected


@pytest.mark.parametrize("how", ["kill", "drain"])
def test_a_node_that_goes_in_the_map_costs_time_and_is_no_attempt(
    how: str, nodes: Nodes, ledger: Ledger, expected: dict[str, bytes], tmp_path: Path
) -> None:
    nodes.have(2)
    made = maps(ledger, tmp_path)
    events = run_with(lambda: getattr(nodes, how)(noted(tmp_path, "estimate-1")["node"]), work(ledger), made)
    check(events, ledger, expected)


def test_a_node_that_goes_in_the_reduce_costs_time(
    nodes: Nodes, ledger: Ledger, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.have(2)
    kinds: list[str] = []
    monkeypatch.setattr(ray_engine.journal, "note", lambda *_, kind="", **__: kinds.append(kind))
    todo = slow_reduce(ledger, tmp_path / "reduce")
    events = run_with(lambda: nodes.kill(noted(tmp_path, "reduce")["node"]), todo, maps(ledger, tmp_path))
    check(events, ledger, expected)
    assert "NodeLost" in kinds


def test_a_node_that_comes_late_changes_no_byte(
    nodes: Nodes, ledger: Ledger, expected: dict[str, bytes], tmp_path: Path
) -> None:
    nodes.have(1)
    events: list[Event] = []
    for event in ray_engine.run([work(ledger)], maps(ledger, tmp_path).whole, configured()):
        if not events:
            nodes.have(2)  # in the main thread, as Ray wants it
        events.append(event)
    check(events, ledger, expected)


@pytest.mark.parametrize("pool", POOLS)
def test_an_actor_that_is_killed_costs_an_attempt_and_no_byte(
    pool: str, nodes: Nodes, ledger: Ledger, expected: dict[str, bytes], tmp_path: Path
) -> None:
    nodes.have(1)
    made = maps(ledger, tmp_path, max_attempts=3)
    events = run_with(lambda: os.kill(noted(tmp_path, f"{pool}-1")["pid"], signal.SIGKILL), work(ledger), made)
    check(events, ledger, expected, attempts=2)


def test_a_reduce_that_is_killed_is_done_again(
    nodes: Nodes, ledger: Ledger, expected: dict[str, bytes], tmp_path: Path
) -> None:
    nodes.have(1)
    todo = slow_reduce(ledger, tmp_path / "reduce")
    kill = lambda: os.kill(noted(tmp_path, "reduce")["pid"], signal.SIGKILL)  # noqa: E731
    check(run_with(kill, todo, maps(ledger, tmp_path)), ledger, expected)


def test_a_worker_that_dies_of_loading_ends_the_run_with_two_lines(
    nodes: Nodes, ledger: Ledger, tmp_path: Path
) -> None:
    nodes.have(1)
    made = maps(ledger, tmp_path, build=misdeeds.crash_at_loading)
    with pytest.raises(MachineError, match="died 3 times while it loaded models\n"):
        list(ray_engine.run([work(ledger)], made.whole, configured()))
