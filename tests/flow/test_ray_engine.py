"""Workers that die during a run, without Ray."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from pipeline.flow import ray_engine
from pipeline.flow.events import VideoFailed
from pipeline.flow.sequence_ends import SequenceEnd
from pipeline.planning.spans import SpanRow
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.job import VideoJob
from pipeline.video.sequences import SequenceJob
from tests.builders import Film, Walker, configured, job
from tests.flow import misdeeds

JOB = cast(SequenceJob, SimpleNamespace(name="cam"))


class DyingWorkers:
    """In place of Ray and of a remote function. The tasks die of `deaths`, one after the other, and then succeed."""

    def __init__(self, deaths: list[BaseException]) -> None:
        self._deaths, self.given = deaths, []

    def options(self, **_: Any) -> "DyingWorkers":
        return self

    def remote(self, *arguments: Any) -> int:
        self.given.append(arguments[0])
        return len(self.given)

    def wait(self, waiting: list[int], **_: Any) -> tuple[list[int], list[int]]:
        return waiting, []

    def get(self, _: int) -> Any:
        if self._deaths:
            raise RayTaskError("reduce", "Traceback …", cast(Exception, self._deaths.pop(0))).as_instanceof_cause()
        return SequenceEnd("cam")


@pytest.fixture
def die(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(deaths: list[BaseException]) -> DyingWorkers:
        workers = DyingWorkers(deaths)
        for name in ("ray", "_reduce", "_link"):
            monkeypatch.setattr(ray_engine, name, workers)
        return workers

    return begin


def lost() -> NodeDiedError:
    return NodeDiedError("its node")


def reduce_until_the_end(workers: DyingWorkers, last: VideoJob) -> list[Any]:
    under_way, events = ray_engine._Run([], configured()), []
    under_way._progress.ready.append(last)
    while not events and len(workers.given) < 100:
        under_way._start_publishing()
        events = list(under_way._published(0))
    return events


@pytest.mark.parametrize("death", [WorkerCrashedError(), OutOfMemoryError("memory")])
def test_a_video_whose_reduce_dies_over_and_over_is_given_up_and_the_run_goes_on(
    death: Exception, die: Any, tmp_path: Any
) -> None:
    workers = die([death] * 4)
    last = job(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    (event,) = reduce_until_the_end(workers, last)
    reason = "its worker died 4 times (memory, or a crash)"
    assert event == VideoFailed(video_id="v", stage="reduce", reason=reason, kind="WorkerDied")
    assert [given.may_be_published for given in workers.given] == [False, True, True, True]


def test_a_reduce_whose_node_goes_away_is_not_to_blame_until_that_happens_often(die: Any, tmp_path: Any) -> None:
    workers = die([lost() for _ in range(20)])
    last = job(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    (event,) = reduce_until_the_end(workers, last)
    assert event.reason == "its worker died 16 times, 16 of them together with its node (memory, or a crash)"


def test_a_sequence_whose_linking_dies_is_linked_again_and_at_last_left_unlinked(die: Any) -> None:
    die([WorkerCrashedError()] * 3)
    assert list(ray_engine.link_sequences([JOB], configured())) == [SequenceEnd("cam")]
    die([WorkerCrashedError()] * 4)
    (end,) = ray_engine.link_sequences([JOB], configured())
    assert end.why == "its worker died 4 times (memory, or a crash)"
    die([lost()] * 15)
    assert list(ray_engine.link_sequences([JOB], configured())) == [SequenceEnd("cam")]


def test_no_worker_loads_its_models_for_nothing(tmp_path: Path) -> None:
    observe_pool, enrich = misdeeds.maps(Ledger(Store(str(tmp_path)), Keys("o", "e")), {}).whole
    rows = [SpanRow("v", "/in/v.mp4", 0, -1, (0, 2, 4), (2,), "{}"), SpanRow("w", "/in/w.mp4", 0, -1, (0,), (), "{}")]
    assert ray_engine.most_workers(rows, [observe_pool, enrich]) == [2, 3]
    four_spans = replace(observe_pool, resources=replace(observe_pool.resources, spans=4))
    assert ray_engine.most_workers(rows, [four_spans, enrich]) == [1, 3]
