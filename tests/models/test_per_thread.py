from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from pipeline.models.per_thread import PerThread
from tests.patience import PATIENCE_S


def test_each_thread_has_one_value_of_its_own() -> None:
    values, both = PerThread(object), Barrier(2)

    def ask() -> tuple[object, object]:
        both.wait(PATIENCE_S)
        return values(), values()

    with ThreadPoolExecutor(2) as threads:
        (first, again), (second, _) = [answer.result() for answer in [threads.submit(ask) for _ in range(2)]]
    assert first is again
    assert first is not second
