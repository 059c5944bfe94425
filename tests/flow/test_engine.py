"""The choice of the engine that carries out a run."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import flatten, load
from pipeline.errors import UserError
from pipeline.flow import cluster, engine, ray_engine
from pipeline.flow.engine import RELINKED_PER_MAPPED, SMALL_FRAMES, SMALL_SEQUENCES, Engines
from pipeline.flow.events import Work
from pipeline.flow.local_engine import PublisherHere
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.relink import RelinkJob
from pipeline.video.sequences import SequenceJob
from tests.builders import Film, job_of
from tests.flow import misdeeds

FPS = 8


class Watched:
    """Both engines, with a record of the calls that they get."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.noted: list[str] = []
        self.ledger = Ledger(Store(str(folder)), Keys("o", "e"))
        for name in ("load", "close"):
            monkeypatch.setattr(engine.WorkerProcess, name, lambda _, name=name: self.noted.append(f"local {name}"))
        monkeypatch.setattr(engine.local_engine, "run", self._run_locally)
        monkeypatch.setattr(cluster, "start_ray", lambda *_: self.noted.append("ray start"))
        monkeypatch.setattr(cluster, "check_room", lambda *_: None)
        monkeypatch.setattr(ray_engine, "run", lambda *_: self._carry_out("ray"))
        monkeypatch.setattr(ray_engine, "link_sequences", lambda *_, **__: self._carry_out("ray", "link"))
        monkeypatch.setattr(engine, "link_here", lambda *_: self._carry_out("local", "link"))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def _run_locally(self, work: Any, maps: Any, worker: Any, deferrals: Any) -> Iterator[Any]:
        return self._carry_out("here" if isinstance(worker, PublisherHere) else "local")

    def _carry_out(self, name: str, what: str = "run") -> Iterator[Any]:
        self.noted.append(f"{name} {what}")
        return iter(())

    def engines(self, *settings: str, workers: int = 1) -> Engines:
        chosen = [f"run.enrich.max_workers={workers}"] if workers > 1 else []
        config = load(settings=[f"observe.fps={FPS}", *settings, *chosen]).on_device("cpu")
        return Engines(config, misdeeds.maps(self.ledger, {}), lambda _: None)

    def work(self, engines: Engines, seconds: float, *, is_mapped: bool = True) -> list[Work]:
        job = job_of(Film(seconds, []), [], self.ledger, engines._config)
        a_span: Any = "a span"
        return [Work(job=job, rows=(a_span,) if is_mapped else ())]

    def again(self, seconds: float) -> list[Any]:
        one = RelinkJob.__new__(RelinkJob)
        object.__setattr__(one, "relink", SimpleNamespace(row={"duration_s": seconds}))
        return [one]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watched:
    return Watched(monkeypatch, tmp_path)


SMALL_S, LARGE_S = SMALL_FRAMES / FPS - 1, SMALL_FRAMES / FPS + 1
LOCAL, RAY = ["local load", "local run"], ["ray start", "ray run"]


@pytest.mark.parametrize(
    ("settings", "workers", "seconds", "expected"),
    [
        ((), 1, SMALL_S, LOCAL),
        ((), 1, LARGE_S, ["local load", "local close", *RAY]),
        ((), 2, SMALL_S, RAY),
        (("run.address=10.0.0.1:6379",), 1, SMALL_S, RAY),
        (("run.engine=ray",), 1, SMALL_S, RAY),
        (("run.engine=local",), 1, LARGE_S, LOCAL),
    ],
)
def test_small_work_of_this_machine_needs_no_ray(
    watched: Watched, settings: tuple[str, ...], workers: int, seconds: float, expected: list[str]
) -> None:
    engines = watched.engines(*settings, workers=workers)
    engines.begin(1, with_pixels=True)
    list(engines.run(watched.work(engines, seconds)))
    assert watched.noted == expected


@pytest.mark.parametrize(
    ("settings", "workers", "seconds", "expected"),
    [
        ((), 2, SMALL_S, ["here run"]),
        ((), 1, RELINKED_PER_MAPPED * SMALL_FRAMES + 1, ["local close", *RAY]),
        (("run.engine=local",), 1, RELINKED_PER_MAPPED * SMALL_FRAMES + 1, ["here run"]),
        (("run.address=10.0.0.1:6379",), 1, SMALL_S, ["local close", *RAY]),
    ],
)
def test_what_is_only_linked_again_needs_no_other_process_unless_it_is_much(
    watched: Watched, settings: tuple[str, ...], workers: int, seconds: float, expected: list[str]
) -> None:
    list(watched.engines(*settings, workers=workers).run(watched.again(seconds)))
    assert watched.noted == expected


def test_what_is_only_tracked_and_linked_is_sooner_done_than_what_is_looked_at(watched: Watched) -> None:
    engines = watched.engines()
    list(engines.run(watched.work(engines, LARGE_S, is_mapped=False)))
    assert watched.noted == ["local run"]


def test_who_decodes_is_said_once_and_only_if_there_is_something_to_decode(watched: Watched) -> None:
    said: list[str] = []
    for settings in ([], ["observe.decoder=auto"]):
        config = load(settings=settings).on_device("cpu")
        engines = Engines(config, misdeeds.maps(watched.ledger, {}), said.append)
        engines.begin(1, with_pixels=False)
        assert said == []
        engines.begin(1, with_pixels=True)
        engines.begin(1, with_pixels=True)
    assert said == ["the CPU decodes: the models run on the CPU (observe.decoder=auto)"]


def test_models_are_not_loaded_where_no_pixels_are_needed(watched: Watched) -> None:
    watched.engines().begin(1, with_pixels=False)
    assert not watched.noted


def test_many_pictures_are_no_small_work_and_ray_starts_while_they_are_looked_at(watched: Watched) -> None:
    watched.engines().begin(SMALL_FRAMES + 1, with_pixels=True)
    assert watched.noted == ["ray start"]


def test_a_process_that_started_early_ends_where_ray_does_the_work(watched: Watched) -> None:
    early: Any = SimpleNamespace(close=lambda: watched.noted.append("early close"))
    config = load().on_device("cpu")
    Engines(config, misdeeds.maps(watched.ledger, {}), lambda _: None, early).begin(SMALL_FRAMES + 1, with_pixels=True)
    assert watched.noted == ["ray start", "early close"]


def test_a_cluster_that_is_named_in_the_environment_is_used(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    watched.engines().begin(1, with_pixels=True)
    watched.engines("run.engine=local").begin(1, with_pixels=True)
    assert watched.noted == ["ray start", "local load"]


@pytest.mark.parametrize(
    ("settings", "expected"), [((), []), (("run.address=10.0.0.1:6379",), ["ray start"]), (("run.engine=ray",), [])]
)
def test_a_run_without_work_joins_the_cluster_that_is_named_so_that_it_is_seen(
    watched: Watched, settings: tuple[str, ...], expected: list[str]
) -> None:
    watched.engines(*settings).join_cluster()
    assert watched.noted == expected


def test_a_run_that_has_a_cluster_joins_it_once(watched: Watched) -> None:
    engines = watched.engines("run.address=10.0.0.1:6379")
    engines.begin(1, with_pixels=True)
    engines.join_cluster()
    assert watched.noted == ["ray start"]


def test_a_worker_is_ended_with_the_run(watched: Watched) -> None:
    with watched.engines() as engines:
        engines.begin(1, with_pixels=True)
    assert watched.noted == ["local load", "local close"]


@pytest.mark.parametrize(
    ("settings", "files", "expected"),
    [
        ((), [3], ["local link"]),
        ((), [SMALL_SEQUENCES + 1], ["local link"]),  # Ray would link it in one task
        ((), [SMALL_SEQUENCES, 1], ["ray start", "ray link"]),
        (("run.engine=local",), [SMALL_SEQUENCES, 1], ["local link"]),
        (("run.engine=ray",), [3], ["ray start", "ray link"]),
    ],
)
def test_sequences_are_linked_here_unless_there_are_many(
    watched: Watched, settings: tuple[str, ...], files: list[int], expected: list[str]
) -> None:
    members: Any = [[None] * count for count in files]
    jobs = [SequenceJob(str(at), tuple(each), watched.ledger.store) for at, each in enumerate(members)]
    list(watched.engines(*settings).link_sequences(jobs))
    assert watched.noted == expected


@pytest.mark.parametrize("other", ["run.observe.workers=2", "run.enrich.max_workers=2", "run.address=10.0.0.1:6379"])
def test_one_process_and_several_workers_exclude_each_other(other: str) -> None:
    with pytest.raises(UserError, match="engine=local"):
        load(settings=["run.engine=local", other])


def test_where_ray_cannot_start_and_nobody_has_asked_for_it_one_process_does_all(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        watched.noted.append("ray start")
        raise UserError("Ray does not start on this machine: timed out\nclose other programs")

    monkeypatch.setattr(cluster, "start_ray", fail)
    engines, said = watched.engines(workers=2), []
    engines._say = said.append
    engines.begin(1, with_pixels=True)
    list(engines.run(watched.work(engines, LARGE_S)))
    assert watched.noted == ["ray start", "local run"]
    assert said[-1].startswith("Ray does not start on this machine: timed out; going on in one process without Ray")
    for settings in (("run.engine=ray",), ("run.address=10.0.0.1:6379",)):
        with pytest.raises(UserError, match="does not start"):
            watched.engines(*settings).begin(1, with_pixels=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), None),
        (("run.observe.workers=1", "run.enrich.max_workers=1"), None),
        (("run.observe.cpus=1000",), "; only with Ray has run.observe.cpus an effect"),
        (
            ("run.enrich.gpus=0.5", "run.max_reduces=2"),
            "; only with Ray have run.enrich.gpus and run.max_reduces an effect",
        ),
        (
            ("run.restore={workers: 1, max_workers: 1, cpus: 1, gpus: auto}", "run.reduce_cpus=2"),
            "run.restore and run.red",
        ),
    ],
)
def test_knobs_that_one_process_does_not_follow_are_named(settings: tuple[str, ...], said: str | None) -> None:
    words = engine.local_in_words(load(settings=["run.engine=local", *settings]))
    assert said in words if said else words.endswith("(run.engine=local)")


def test_every_knob_of_run_is_followed_by_one_process_or_named() -> None:
    followed = {"output", "engine", "observe.spans", "max_attempts", "chunk_deadline_s", "deferral_waits_s"}
    recorded = {"cpu_hour_price", "gpu_hour_price", "log", "events_ttl_days", "work_ttl_days"}
    for_several = {f"{pool}.{name}" for pool in ("observe", "enrich") for name in ("workers", "max_workers")}
    knobs = {key for key, _ in flatten(load().plain()["run"])}
    assert knobs == followed | recorded | for_several | {"address"} | set(engine.OF_RAY)
