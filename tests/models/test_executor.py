"""Several spans share one executor: full batches of all of them, no dead ends, and failures where they belong."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.models.executor import Executor, Lane
from tests.patience import PATIENCE_S, eventually

NEVER = float("inf")
SIZE = 4


class Doubling:
    """A network that doubles its samples, and notes the number of samples and the thread of each batch.

    hold: a batch runs only while this is set.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.threads: set[int] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.failures: list[Exception] = []
        self.lane = Lane(SIZE, lambda: np.zeros((SIZE, 1)), self.run)

    def run(self, memory: NDArray[Any], count: int) -> list[NDArray[Any]]:
        assert self.hold.wait(PATIENCE_S)
        self.counts.append(count)
        self.threads.add(threading.get_ident())
        if self.failures:
            raise self.failures.pop()
        return [memory[:count] * 2, memory[:count].sum(axis=1)]


def bring(
    executor: Executor, lane: Lane, values: Sequence[float] | NDArray[Any], within: Any = None
) -> list[NDArray[Any]]:
    """Bring these samples, as one of the spans that work."""

    def write(rows: NDArray[Any], first: int) -> None:
        rows[:, 0] = values[first : first + len(rows)]

    with within or nullcontext():
        return executor.run(lane, write, len(values))


@pytest.fixture
def network() -> Doubling:
    return Doubling()


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def all_at_once(threads: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make the calls in threads that begin at the same time, and return their results."""
    start = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        start.wait(PATIENCE_S)
        return call()

    futures: list[Future[Any]] = [threads.submit(begin, call) for call in calls]
    return [future.result(PATIENCE_S) for future in futures]


def test_each_span_gets_the_rows_of_its_samples_whoever_shares_the_batch(
    network: Doubling, threads: ThreadPoolExecutor
) -> None:
    executor = Executor(patience_s=NEVER)
    values = [np.arange(number, number + 1 + number % 7) for number in range(0, 800, 10)]

    def work(mine: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
        with executor.working():
            return [bring(executor, network.lane, each) for each in mine]

    results = all_at_once(threads, [lambda part=part: work(values[part::4]) for part in range(4)])
    for part in range(4):
        for given, (doubled, sums) in zip(values[part::4], results[part], strict=True):
            assert_array_equal(doubled[:, 0], given * 2)
            assert_array_equal(sums, given)
    assert sum(network.counts) == sum(map(len, values))
    assert len(network.threads) == 1


def test_a_batch_is_filled_by_several_spans_before_it_runs(network: Doubling, threads: ThreadPoolExecutor) -> None:
    executor = Executor(patience_s=NEVER)
    with executor.working():  # a span that does not wait, so that only full batches run
        all_at_once(threads, [lambda: bring(executor, network.lane, [1, 2], executor.working())] * 4)
    assert network.counts == [SIZE, SIZE]


def test_a_batch_that_is_not_full_runs_when_every_span_waits(network: Doubling, threads: ThreadPoolExecutor) -> None:
    executor = Executor(patience_s=NEVER)
    with executor.working():
        waiting = threads.submit(bring, executor, network.lane, [1], executor.working())
        eventually(lambda: network.lane.filling)
        assert network.counts == []
        other = Doubling()
        assert_array_equal(bring(executor, other.lane, [3])[0], [[6]])  # now both wait
    assert_array_equal(waiting.result(PATIENCE_S)[0], [[2]])
    assert (network.counts, other.counts) == ([1], [1])


def test_a_span_that_its_consumer_stops_holds_nobody_up(network: Doubling) -> None:
    executor = Executor(patience_s=NEVER)
    with executor.working():
        bring(executor, network.lane, [1])
    assert_array_equal(bring(executor, network.lane, [2])[0], [[4]])


def test_a_span_that_reads_for_long_holds_the_others_up_only_for_a_while(network: Doubling) -> None:
    executor = Executor(patience_s=0.01)
    with executor.working(), executor.working():
        assert_array_equal(bring(executor, network.lane, [2])[0], [[4]])


def test_more_samples_than_all_memory_holds_find_their_way(network: Doubling, threads: ThreadPoolExecutor) -> None:
    executor = Executor(patience_s=NEVER)
    network.hold.clear()
    futures = [threads.submit(bring, executor, network.lane, [number] * 5) for number in range(8)]
    network.hold.set()
    for number, future in enumerate(futures):
        assert_array_equal(future.result(PATIENCE_S)[0], np.full((5, 1), number * 2))
    assert sum(network.counts) == 40
    assert network.lane.num_batches <= 3


def test_a_batch_that_fails_fails_for_those_who_share_it_and_the_next_one_works(
    network: Doubling, threads: ThreadPoolExecutor
) -> None:
    executor = Executor(patience_s=NEVER)
    network.failures = [RuntimeError("out of memory")]

    def fail() -> str:
        with pytest.raises(RuntimeError, match="out of memory") as failure:
            bring(executor, network.lane, [1, 2], executor.working())
        return str(failure.value)

    with executor.working():
        assert all_at_once(threads, [fail, fail]) == ["out of memory"] * 2
    assert_array_equal(bring(executor, network.lane, [3])[0], [[6]])


def test_samples_that_cannot_be_written_fail_alone(network: Doubling, threads: ThreadPoolExecutor) -> None:
    executor = Executor(patience_s=NEVER)

    def refuse(rows: NDArray[Any], first: int) -> None:
        raise ValueError("no picture")

    with executor.working():
        with pytest.raises(ValueError, match="no picture"):
            executor.run(network.lane, refuse, 2)
        assert_array_equal(bring(executor, network.lane, [3])[0], [[6]])


def test_an_executor_that_cannot_begin_says_so_to_everybody(network: Doubling) -> None:
    def begin() -> None:
        raise OSError("no card")

    executor = Executor(begin, patience_s=NEVER)
    for _ in range(2):
        with pytest.raises(OSError, match="no card"):
            bring(executor, network.lane, [1])


def test_samples_that_are_written_while_the_executor_ends_are_not_waited_for(network: Doubling) -> None:
    ended = threading.Event()

    def begin() -> None:
        ended.set()
        raise OSError("no card")

    executor = Executor(begin, patience_s=NEVER)

    def write(rows: NDArray[Any], first: int) -> None:
        assert ended.wait(PATIENCE_S)
        time.sleep(0.05)  # the executor notes its failure

    with pytest.raises(OSError, match="no card"):
        executor.run(network.lane, write, 1)


def test_the_oldest_batch_runs_first_and_a_full_one_before_all_that_are_not(threads: ThreadPoolExecutor) -> None:
    order: list[str] = []
    executor, lanes = Executor(patience_s=NEVER), {}
    held = threading.Event()

    def run(name: str, memory: NDArray[Any], count: int) -> list[NDArray[Any]]:
        order.append(name)
        if name == "first":
            assert held.wait(PATIENCE_S)
        return [memory[:count]]

    for name in ("first", "old", "full", "young"):
        lanes[name] = Lane(SIZE, lambda: np.zeros((SIZE, 1)), lambda memory, count, name=name: run(name, memory, count))
    futures = [threads.submit(bring, executor, lanes["first"], [1])]
    eventually(lambda: order)
    for name, count in (("old", 1), ("full", SIZE), ("young", 1)):
        futures.append(threads.submit(bring, executor, lanes[name], [1] * count))
        eventually(lambda name=name: lanes[name].filling or lanes[name].full)
    held.set()
    for future in futures:
        future.result(PATIENCE_S)
    assert order == ["first", "full", "old", "young"]
