"""Rows that share one worker: turns, time and deadlines."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from pipeline.flow.sharing import SharedClock, Turns, Watchdog
from tests.patience import PATIENCE_S, eventually


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_rows_work_beside_each_other_and_one_of_them_alone(threads: ThreadPoolExecutor) -> None:
    turns, order, begun = Turns(), list[str](), threading.Event()

    def alone() -> None:
        begun.set()
        with turns.alone():
            order.append("alone")

    def late() -> None:
        with turns.beside_others():
            order.append("late")

    with ExitStack() as early:
        for _ in range(2):
            early.enter_context(turns.beside_others())
        first = threads.submit(alone)
        assert begun.wait(PATIENCE_S)
        eventually(lambda: turns._num_wanting)
        second = threads.submit(late)  # it would never end if rows could go on to begin beside each other
        order.append("early")
    first.result(PATIENCE_S)
    second.result(PATIENCE_S)
    assert order == ["early", "alone", "late"]


def test_several_that_want_to_be_alone_take_turns(threads: ThreadPoolExecutor) -> None:
    turns, inside, most = Turns(), set[int](), list[int]()

    def alone(number: int) -> None:
        for _ in range(50):
            with turns.alone():
                inside.add(number)
                most.append(len(inside))
                inside.remove(number)

    list(threads.map(alone, range(4)))
    assert (len(most), max(most)) == (200, 1)


def test_the_time_of_a_worker_is_divided_among_its_rows() -> None:
    now = [100.0]
    clock = SharedClock(lambda: now[0])
    start = clock.read()
    with clock.working():
        now[0] += 4
        assert clock.read() - start == 4
        with clock.working():
            now[0] += 4
            assert clock.read() - start == 6
        now[0] += 1
    assert clock.read() - start == 7


def test_each_block_has_a_deadline_of_its_own() -> None:
    ended = threading.Event()
    dog = Watchdog(0.2, ended.set)
    with dog.watching():
        with dog.watching():
            pass
        assert ended.wait(PATIENCE_S)


def test_a_block_that_is_over_in_time_is_not_watched_any_more() -> None:
    before = set(threading.enumerate())
    with Watchdog(PATIENCE_S, lambda: None).watching():
        (timer,) = set(threading.enumerate()) - before
    timer.join(PATIENCE_S / 2)
    assert not timer.is_alive()
