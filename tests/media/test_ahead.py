import threading
from collections.abc import Iterator

import pytest

from pipeline.media.ahead import ahead


def test_ahead_keeps_the_order_and_stays_within_its_depth() -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            pulled.append(item)
            yield item

    received = []
    for item in ahead(items(), 3):
        assert len(pulled) <= len(received) + 3 + 2  # in the queue, held by the thread, held here
        received.append(item)
    assert received == list(range(50))


def test_ahead_passes_an_exception_on_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError

    pulled = ahead(items(), 2)
    assert next(pulled) == 1
    with pytest.raises(LookupError):
        next(pulled)


def test_ahead_closed_early_ends_its_thread_and_closes_what_it_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = set(threading.enumerate())
    for depth in (1, 4):
        closed.clear()
        pulled = ahead(items(), depth)
        assert next(pulled) == 0
        pulled.close()  # type: ignore[attr-defined]
        assert closed.is_set()
        assert set(threading.enumerate()) <= before
