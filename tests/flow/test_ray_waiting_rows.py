"""Rows that wait between two pools of a run on a real Ray."""

import queue
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.flow import cluster, ray_engine
from pipeline.planning.spans import SpanRow
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.builders import configured
from tests.flow import misdeeds

pytestmark = [pytest.mark.slow, pytest.mark.ray]
NUM_CHUNKS, FAST_S, SLOW_S = 200, 0.02, 0.04
LATER = slice(100, 140)
"""Chunks that are committed later than the first seconds, in which Ray Data gives the slow pool nothing to do."""


@pytest.fixture
def _ray() -> Iterator[None]:
    cluster.start_ray(configured("run.observe.cpus=0.5", "run.enrich.cpus=0.5"))
    yield
    cluster.stop_ray()


def observe_fast(folder: Path, first: int) -> None:
    """Write down that a chunk is observed."""
    time.sleep(FAST_S)
    (folder / f"observed-{first}").touch()


def commit_slowly(folder: Path, first: int) -> None:
    """Write down how many observed chunks have not been committed yet."""
    num_waiting = len(list(folder.glob("observed-*"))) - len(list(folder.glob("committed-*")))
    (folder / f"committed-{first}").write_text(str(num_waiting))
    time.sleep(SLOW_S)


@pytest.mark.usefixtures("_ray")
def test_a_fast_pool_waits_for_a_slow_one_before_many_small_rows_wait_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "MOST_WAITING", 4.0)
    firsts = tuple(range(NUM_CHUNKS))
    made = misdeeds.maps(
        Ledger(Store(str(tmp_path / "out")), Keys("o", "e")),
        {},
        observing={("v", first): partial(observe_fast, tmp_path, first) for first in firsts},
        committing={("v", first): partial(commit_slowly, tmp_path, first) for first in firsts},
    )
    arrivals: queue.Queue[Any] = queue.Queue()
    ray_engine._map([SpanRow("v", "/in/v.mp4", 0, -1, firsts, (), "{}")], made.whole, arrivals)
    rows = [arrivals.get() for _ in range(NUM_CHUNKS + 1)]
    assert rows[-1] is None
    waiting = [int((tmp_path / f"committed-{first}").read_text()) for first in firsts]
    assert max(waiting[LATER]) < 30, waiting
