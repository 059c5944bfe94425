"""The rules of the adapter, without Ray. The worker is made directly."""

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.errors import CardError, DataError, MachineError, PassingError, UserError
from pipeline.flow import loading
from pipeline.flow import stage as stages
from pipeline.flow.events import VideoFailed, event_of
from pipeline.flow.stage import Limits, PoolOfStages, Resources, Stage, Worker
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.builders import Film
from tests.builders import chunk as chunk_of
from tests.patience import PATIENCE_S

A, B = pa.schema([("a", pa.int64())]), pa.schema([("b", pa.int64())])


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    monkeypatch.setattr(loading, "LONGEST_WAIT_S", 0)
    limits = Limits(ledger=Ledger(Store(str(tmp_path)), Keys("o", "e")), run_id="run", max_attempts=2, deadline_s=60)

    def made(*stages: Stage, nodes: Any = None, spans: int = 1) -> Worker:
        resources = Resources(num_cpus=1, num_gpus=0.5, min_workers=1, max_workers=1, spans=spans)
        return Worker(PoolOfStages(name="pool", stages=stages, resources=resources, limits=limits), nodes)

    return made


def stage(name: str, core: Any, needs: pa.Schema, adds: pa.Schema, **more: Any) -> Stage:
    return Stage(name=name, build=lambda: core, needs=needs, adds=adds, **more)


def chunk(**columns: Any) -> pa.Table:
    base = dict.fromkeys(rows.CHUNK.names) | {"video_id": "v", "first_cell": 0, "attempts": 0, "timings": []}
    table = pa.table({name: pa.array([base[name]], rows.CHUNK.field(name).type) for name in rows.CHUNK.names})
    for name, value in columns.items():
        table = table.append_column(pa.field(name, pa.int64()), pa.array([value], pa.int64()))
    return table


def test_stages_of_a_pool_add_and_drop_in_order(make: Callable[..., Worker]) -> None:
    double = stage("double", lambda t: pa.table({"b": [t["a"][0].as_py() * 2]}), A, B, drops=("a",))
    again = stage("again", lambda t: pa.table({"b": [t["b"][0].as_py() * 2]}), B, B)
    (out,) = make(double, again)(chunk(a=3, z=9))
    assert (out["b"].to_pylist(), out["z"].to_pylist()) == ([12], [9])
    assert "a" not in out.column_names
    assert [timing["stage"] for timing in out["timings"][0].as_py()] == ["double", "again"]
    assert out["timings"][0].as_py()[0]["gpu_seconds"] == out["timings"][0].as_py()[0]["seconds"] / 2


def test_a_stage_sees_only_what_it_needs(make: Callable[..., Worker]) -> None:
    seen: list[list[str]] = []

    def core(table: pa.Table) -> pa.Table:
        seen.append(table.column_names)
        return pa.table({"b": [1]})

    list(make(stage("s", core, A, B))(chunk(a=3, z=9)))
    assert seen == [["a"]]


def test_a_fault_of_the_data_stays_on_its_row_and_later_stages_leave_it_alone(make: Callable[..., Worker]) -> None:
    def faulty(table: pa.Table) -> pa.Table:
        raise DataError("a rotten crop")

    later = stage("later", lambda table: pytest.fail("ran"), B, A)
    (out,) = make(stage("first", faulty, A, B), later)(chunk(a=1))
    assert out["error"].to_pylist() == [{"stage": "first", "kind": "DataError", "message": "a rotten crop"}]
    assert out["b"].to_pylist() == out["a"].to_pylist() == [None]


def test_a_failure_that_may_pass_stays_on_its_row_with_its_kind(make: Callable[..., Worker]) -> None:
    def asleep(table: pa.Table) -> pa.Table:
        raise PassingError("the bucket is asleep")

    (out,) = make(stage("first", asleep, A, B))(chunk(a=1))
    assert out["error"].to_pylist() == [{"stage": "first", "kind": "PassingError", "message": "the bucket is asleep"}]


def test_a_bug_stays_on_its_row_with_its_traceback(make: Callable[..., Worker]) -> None:
    (out,) = make(stage("s", lambda table: 1 / 0, A, B))(chunk(a=1))
    failure = event_of(out)
    assert isinstance(failure, VideoFailed)
    assert (failure.stage, failure.kind) == ("s", "Bug")
    assert failure.reason == "a bug: ZeroDivisionError: division by zero; please report it"
    assert failure.bug is not None
    assert "Traceback" in failure.bug


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (UserError("no credentials"), UserError),
        (MachineError("the disk is full"), MachineError),
        (CardError("an illegal access"), CardError),
        (MemoryError(), MemoryError),
        (OSError(errno.ENOSPC, "no space"), MachineError),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), MachineError),
    ],
)
def test_what_concerns_all_videos_ends_the_run(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type[Exception]
) -> None:
    def fail(_: pa.Table) -> pa.Table:
        raise fault

    monkeypatch.setattr(stages, "_end_process", lambda *_: None)
    with pytest.raises(kind):
        list(make(stage("s", fail, A, B))(chunk(a=1)))


def test_what_keeps_a_worker_from_loading_its_models_comes_out_with_the_first_row(make: Callable[..., Worker]) -> None:
    def build() -> Any:
        raise MachineError("the disk is full")

    worker = make(Stage(name="s", build=build, needs=A, adds=B))
    with pytest.raises(MachineError, match="the disk is full"):
        list(worker(chunk(a=1)))


def test_a_wrong_column_is_named(make: Callable[..., Worker]) -> None:
    (out,) = make(stage("s", lambda table: pa.table({"c": [1]}), A, B))(chunk(a=1))
    assert "expected columns ['b'], got ['c']" in out["error"][0].as_py()["message"]


SPAN = pa.schema([("video_id", pa.string()), ("first_cell", pa.int64())])


def split(faulty: bool) -> Callable[[pa.Table], Iterator[pa.Table]]:
    def core(row: pa.Table) -> Iterator[pa.Table]:
        yield chunk(a=1)
        if faulty:
            raise DataError("the rest is rotten")
        yield chunk(a=2)

    return core


@pytest.mark.parametrize("faulty", [False, True])
def test_a_span_becomes_chunks_and_a_fault_on_the_way_a_row_of_the_same_form(
    make: Callable[..., Worker], faulty: bool
) -> None:
    worker = make(
        stage("split", split(faulty), SPAN, A, splits=True),
        stage("next", lambda t: pa.table({"b": t["a"]}), A, B, drops=("a",)),
    )
    out = list(worker(pa.table({"video_id": ["v"], "first_cell": [0]})))
    assert [table.column_names for table in out] == [[*rows.CHUNK.names, "b"]] * 2
    assert [table["b"][0].as_py() for table in out] == [1, None if faulty else 2]
    assert out[1]["error"][0].is_valid is faulty


def test_a_chunk_that_kills_its_worker_is_given_up(make: Callable[..., Worker]) -> None:
    def dies(table: pa.Table) -> pa.Table:
        raise SystemExit  # acts like a death, because the attempt is not taken back

    worker = make(stage("s", dies, A, B))
    for _ in range(2):
        with pytest.raises(SystemExit):
            list(worker(chunk(a=1)))
    (out,) = worker(chunk(a=1))
    assert out["error"][0].as_py()["message"].startswith("its worker died 2 times")
    assert out["b"].to_pylist() == [None]


class Cluster:
    """The nodes of a cluster, on one of which the worker runs. `lost` have died."""

    def __init__(self, here: str = "a", worker: str | None = None) -> None:
        self._here, self._worker = here, worker
        self.lost: set[str] = set()

    def here(self) -> str:
        return self._here

    def worker(self) -> str | None:
        return self._worker

    def gone(self, nodes: Collection[str]) -> set[str]:
        return self.lost & set(nodes)


def test_deaths_with_their_node_are_not_the_fault_of_a_chunk_until_there_are_many(make: Callable[..., Worker]) -> None:
    dies = [True]

    def core(table: pa.Table) -> pa.Table:
        if dies[0]:
            raise SystemExit
        return pa.table({"b": [1]})

    cluster = Cluster()
    worker = make(stage("s", core, A, B), nodes=cluster)

    def die(times: int) -> None:
        for _ in range(times):
            with pytest.raises(SystemExit):
                list(worker(chunk(a=1)))

    die(2)
    cluster.lost = {"a"}
    die(5)
    dies[0] = False
    (out,) = worker(chunk(a=1))
    assert (out["error"][0].as_py(), out["attempts"].to_pylist()) == (None, [2])
    dies[0] = True
    die(8)
    dies[0] = False
    (out,) = worker(chunk(a=1))
    assert out["error"][0].as_py()["message"].startswith("its worker died 8 times, 8 of them together with its node (")


def test_models_that_fail_to_load_for_a_moment_are_loaded_again(make: Callable[..., Worker]) -> None:
    failures: list[Exception] = [OSError(errno.EIO, "Input/output error"), RuntimeError("unexpected end of file")]

    def build() -> Any:
        if failures:
            raise failures.pop()
        return lambda table: pa.table({"b": [1]})

    (out,) = make(Stage(name="s", build=build, needs=A, adds=B))(chunk(a=1))
    assert out["b"].to_pylist() == [1]


def test_models_that_do_not_load_are_two_lines_with_a_remedy(make: Callable[..., Worker]) -> None:
    def build() -> Any:
        raise RuntimeError("unexpected end of file\nin archive")

    with pytest.raises(MachineError) as ended:
        list(make(Stage(name="s", build=build, needs=A, adds=B))(chunk(a=1)))
    first, second = str(ended.value).splitlines()
    assert first == "the models of the pool pool cannot be loaded: RuntimeError: unexpected end of file"
    assert "run the same command again" in second


def test_a_card_that_has_no_room_for_the_models_is_named(make: Callable[..., Worker]) -> None:
    def build() -> Any:
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 1.2 GiB.\nmore")

    with pytest.raises(MachineError) as ended:
        list(make(Stage(name="s", build=build, needs=A, adds=B))(chunk(a=1)))
    words = (
        "the graphics card has too little memory (CUDA out of memory. Tried to allocate 1.2 GiB); end other processes"
    )
    assert str(ended.value).startswith(words)


def test_a_worker_that_dies_of_loading_again_and_again_says_so(make: Callable[..., Worker]) -> None:
    def build() -> Any:
        raise SystemExit

    for _ in range(3):
        with pytest.raises(SystemExit):
            make(Stage(name="s", build=build, needs=A, adds=B), nodes=Cluster(worker="w"))
    worker = make(Stage(name="s", build=build, needs=A, adds=B), nodes=Cluster(worker="w"))
    with pytest.raises(MachineError, match="a worker of the pool pool died 3 times while it loaded models"):
        list(worker(chunk(a=1)))
    with pytest.raises(SystemExit):
        make(Stage(name="s", build=build, needs=A, adds=B), nodes=Cluster(worker="another"))


def test_a_success_takes_its_attempts_back(make: Callable[..., Worker]) -> None:
    worker = make(stage("s", lambda table: pa.table({"b": [1]}), A, B))
    for _ in range(5):
        (out,) = worker(chunk(a=1))
        assert out["attempts"].to_pylist() == [1]


BORDERED = pa.schema(
    [
        ("video_id", pa.string()),
        ("first_cell", pa.int64()),
        ("end_cell", pa.int64()),
        ("borders", pa.list_(pa.int64())),
        ("durable", pa.list_(pa.int64())),
    ]
)


def test_a_second_attempt_at_a_span_runs_no_model_on_a_durable_chunk(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    """All attempts yield as many rows in the same order, because Ray drops by number what it has already."""
    ledger = Ledger(Store(str(tmp_path)), Keys("o", "e"))
    film = Film(4.0, [])
    asked: list[list[int]] = []

    def core(row: pa.Table) -> Iterator[pa.Table]:
        durable = row["durable"][0].as_py()
        asked.append(durable)
        for first, end in ((0, 1), (1, 2), (2, 3), (3, -1)):
            if first not in durable:
                ends = {"first_cell": first, "end_cell": end}
                yield (
                    chunk(a=first)
                    .drop_columns(list(ends))
                    .append_column("first_cell", pa.array([first], pa.int64()))
                    .append_column("end_cell", pa.array([end], pa.int64()))
                )

    worked: list[int] = []

    def extend(row: pa.Table) -> pa.Table:
        worked.append(row["a"][0].as_py())
        return pa.table({"b": row["a"]})

    worker = make(stage("split", core, BORDERED, A, splits=True), stage("next", extend, A, B))
    row = pa.Table.from_pylist(
        [{"video_id": "v", "first_cell": 0, "end_cell": -1, "borders": [0, 1, 2, 3], "durable": [1]}], BORDERED
    )
    attempt = worker(row)
    next(attempt)  # the worker dies after its first chunk, and before it can remove the mark of its attempt
    for ends in ((0, 1), (2, 3)):
        ledger.commit("v", ends, *chunk_of(film, film.frames(), ends))
    worked.clear()
    out = [table.to_pylist()[0] for table in worker(row)]
    assert [(one["first_cell"], (one["error"] or {}).get("kind"), one["b"]) for one in out] == [
        (0, "AlreadyDurable", None),
        (2, "AlreadyDurable", None),
        (3, None, 3),
    ]
    assert (asked[-1], worked) == ([1, 0, 2], [3])


def of_video(name: str) -> pa.Table:
    row = chunk(a=1)
    return row.set_column(row.column_names.index("video_id"), "video_id", pa.array([name]))


def test_rows_that_die_beside_each_other_are_hardly_charged_and_repeated_alone(make: Callable[..., Worker]) -> None:
    """v kills every worker. It is given up after the death beside others and as many alone as are allowed. w is neither
    lost nor blamed."""
    together, at_work = threading.Barrier(2), list[str]()
    most = [0]

    def core(table: pa.Table) -> pa.Table:
        at_work.append(table["video_id"][0].as_py())
        most[0] = max(most[0], len(at_work))
        try:
            if not together.broken and together.parties == 2:
                together.wait(PATIENCE_S)
            if table["video_id"][0].as_py() == "v" or most[0] == 2:
                raise SystemExit  # acts like a death, because the mark of the attempt stays
            return pa.table({"b": [1]})
        finally:
            at_work.pop()

    def run(worker: Worker, name: str) -> Any:
        try:
            return list(worker(of_video(name)))
        except SystemExit:
            return "died"

    needs = pa.schema([rows.CHUNK.field("video_id"), *A])
    with ThreadPoolExecutor(2) as threads:
        worker = make(stage("s", core, needs, B), spans=2)
        assert list(threads.map(partial(run, worker), "vw")) == ["died", "died"]
        assert most == [2]
        together.abort()
        for expected in ("died", "died", "given up"):
            most[0] = 0
            worker = make(stage("s", core, needs, B), spans=2)
            v, w = threads.map(partial(run, worker), "vw")
            if expected == "died":
                assert v == "died"
            else:
                (row,) = v
                message = row["error"][0].as_py()["message"]
                assert message.startswith("its worker died 3 times, 1 of them beside other chunks (")
            (row,) = w
            assert (row["error"][0].as_py(), row["attempts"].to_pylist()) == (None, [1])
            assert most[0] <= 1


def test_rows_of_one_worker_share_its_seconds(make: Callable[..., Worker]) -> None:
    together = threading.Barrier(4)

    def core(table: pa.Table) -> pa.Table:
        together.wait(PATIENCE_S)
        time.sleep(0.2)
        together.wait(PATIENCE_S)
        return pa.table({"b": [1]})

    worker = make(stage("s", core, A, B), spans=4)
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as threads:
        rows_out = list(threads.map(lambda name: next(worker(of_video(name))), "vwxy"))
    elapsed = time.perf_counter() - began
    spent = [timing for row in rows_out for timing in row["timings"][0].as_py()]
    assert 0.2 <= sum(timing["seconds"] for timing in spent) <= elapsed
    assert sum(timing["gpu_seconds"] for timing in spent) == sum(timing["seconds"] for timing in spent) / 2


def test_a_card_that_fails_ends_the_process(make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    def core(table: pa.Table) -> pa.Table:
        raise CardError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(CardError):
        list(make(stage("s", core, A, B))(chunk(a=1)))
    assert ended == [1]


@pytest.mark.parametrize("ends_by", ["death", "fault"])
def test_the_failure_of_a_span_comes_after_as_many_rows_as_an_earlier_attempt_has_yielded(
    make: Callable[..., Worker], ends_by: str
) -> None:
    """Ray drops by number what it has already. Three chunks have been yielded before the first death."""
    attempts = [0]

    def core(row: pa.Table) -> Iterator[pa.Table]:
        attempts[0] += 1
        for number in range(3):
            if attempts[0] > 1 and ends_by == "fault":
                raise DataError("the file is gone")
            yield chunk(a=number)
        raise SystemExit

    worker = make(stage("split", core, BORDERED, A, splits=True))
    span = {"video_id": "v", "first_cell": 0, "end_cell": -1, "borders": [0, 1, 2, 3], "durable": []}
    row = pa.Table.from_pylist([span], BORDERED)
    for _ in range(2 if ends_by == "death" else 1):
        with pytest.raises(SystemExit):
            list(worker(row))
    out = [table.to_pylist()[0] for table in worker(row)]
    assert len(out) == 4
    assert {each["error"]["kind"] for each in out} == {"WorkerDied" if ends_by == "death" else "DataError"}
