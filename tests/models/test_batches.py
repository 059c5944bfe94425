"""The path of a card, on a fake one: a CPU whose graphs compute nothing."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import CardError, MachineError
from pipeline.models import batches
from pipeline.models.batches import EAGER_BATCHES, MOST_SHAPES, Batches, InTurns, is_shared, run_by
from pipeline.models.executor import Executor
from tests.patience import PATIENCE_S


class Doubling:
    """A network that counts its calls. calls: the number of them."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return inputs.to(torch.float16) * 2, inputs.sum(dim=1)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the CPU be a card, and return what was done on it."""
    done: list[str] = []

    class Graph:
        def replay(self) -> None:
            done.append("replay")

    @contextlib.contextmanager
    def graph(_: Graph, *, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        done.append("capture")
        yield

    class Stream:
        def synchronize(self) -> None:
            done.append("wait")

    monkeypatch.setattr(batches, "is_card", lambda device: True)
    monkeypatch.setattr(batches, "host_memory", lambda shape, dtype, device: torch.empty(tuple(shape), dtype=dtype))
    monkeypatch.setattr(batches.torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(batches.torch.cuda, "graph", graph)
    monkeypatch.setattr(batches.torch.cuda, "current_stream", Stream)
    return done


def run(here: Batches, samples: NDArray[np.uint8], size: int = 4) -> list[NDArray[Any]]:
    def write(rows: NDArray[Any], first: int) -> None:
        rows[:] = samples[first : first + len(rows)]

    return here.run((size, 3), np.uint8, write, len(samples))


def test_rows_come_back_as_float32_and_whole_numbers_as_they_are() -> None:
    samples = np.arange(9, dtype=np.uint8).reshape(3, 3)
    doubled, sums = run(Batches(Doubling(), device="cpu"), samples)
    assert_array_equal(doubled, samples * 2.0, strict=False)
    assert doubled.dtype == np.float32
    assert_array_equal(sums, samples.sum(axis=1))


def test_results_stay_when_the_memory_of_their_batch_is_used_again(card: list[str]) -> None:
    here = Batches(Doubling(), device="cpu", graphs=False)
    first = run(here, np.ones((2, 3), np.uint8))
    run(here, np.full((2, 3), 7, np.uint8))
    assert_array_equal(first[0], np.full((2, 3), 2))
    assert card == ["wait"] * 2


def test_a_shape_becomes_a_graph_after_a_few_batches_and_waits_once_for_each(card: list[str]) -> None:
    network, kept = Doubling(), []
    here = Batches(network, device="cpu", keep=lambda: kept.append("anchors"))
    for _ in range(EAGER_BATCHES + 2):
        run(here, np.ones((4, 3), np.uint8))
    assert card == ["wait"] * EAGER_BATCHES + ["capture", "replay", "wait", "replay", "wait"]
    assert network.calls == EAGER_BATCHES + 1
    assert here.num_graphs == 1
    assert kept == ["anchors"]


def test_the_shape_that_was_not_used_for_the_longest_time_loses_its_graph(card: list[str]) -> None:
    here = Batches(Doubling(), device="cpu")
    for size in range(1, MOST_SHAPES + 2):
        for _ in range(EAGER_BATCHES + 1):
            run(here, np.ones((1, 3), np.uint8), size)
    assert here.num_graphs == MOST_SHAPES
    run(here, np.ones((1, 3), np.uint8), 2)
    assert card[-2:] == ["replay", "wait"]
    run(here, np.ones((1, 3), np.uint8), 1)
    assert card[-2:] == ["wait", "wait"]


def test_a_network_that_cannot_be_captured_runs_without_a_graph_and_says_so_once(
    card: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(batches.torch.cuda, "graph", refuse)
    here = Batches(Doubling(), device="cpu")
    with caplog.at_level(logging.WARNING):
        outputs = [run(here, np.ones((4, 3), np.uint8)) for _ in range(EAGER_BATCHES + 3)]
    assert_array_equal([doubled for doubled, _ in outputs], np.full((len(outputs), 4, 3), 2))
    assert [record.message for record in caplog.records] == [
        "no CUDA graph for batches of (4, 3), so they run slower: operation not permitted when stream is capturing"
    ]


def test_threads_fill_the_batches_of_one_network_together(card: list[str]) -> None:
    """The same rows come back as without an executor, on a card with its graphs too."""
    samples = np.random.default_rng(0).integers(0, 100, (60, 3), np.uint8)
    executor, network = Executor(patience_s=PATIENCE_S), Doubling()
    with run_by(executor):
        here = Batches(network, device="cpu", graphs=False)
    parts = [[samples[start : start + 3] for start in range(12 * number, 12 * number + 12, 3)] for number in range(5)]
    all_at_work = threading.Barrier(5)

    def bring(mine: list[NDArray[np.uint8]]) -> list[list[NDArray[Any]]]:
        with executor.working():
            all_at_work.wait(PATIENCE_S)
            return [run(here, part) for part in mine]

    with ThreadPoolExecutor(5) as threads:
        outputs = [output for outputs in threads.map(bring, parts) for output in outputs]
    assert_array_equal(np.concatenate([doubled for doubled, _ in outputs]), samples * 2.0)
    assert_array_equal(np.concatenate([sums for _, sums in outputs]), samples.sum(axis=1))
    assert network.calls < len(outputs)


def test_a_card_that_takes_no_more_work_is_named(card: list[str]) -> None:
    def fail(inputs: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be …")

    with pytest.raises(CardError, match=r"CUDA error: an illegal memory access was encountered$"):
        run(Batches(fail, device="cpu"), np.ones((1, 3), np.uint8))


CARD_IS_FULL = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. "
    "GPU 0 has a total capacity of 79.11 GiB of which 9.12 MiB is free. "
    "Process 7 has 70.00 GiB memory in use. If reserved memory is large, try setting PYTORCH_CUDA_ALLOC_CONF"
)


def test_a_card_that_is_full_is_no_bug_and_the_remedy_is_said(card: list[str]) -> None:
    def fail(inputs: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError(CARD_IS_FULL)

    with pytest.raises(MachineError) as raised:
        run(Batches(fail, device="cpu"), np.ones((1, 3), np.uint8))
    words = str(raised.value)
    assert words.startswith(
        "the graphics card has too little memory (CUDA out of memory. Tried to allocate 20.00 MiB. "
        "GPU 0 has a total capacity of 79.11 GiB of which 9.12 MiB is free); end other processes"
    )
    assert "run.observe.spans" in words
    assert "observe.detector.batch" in words


@pytest.mark.parametrize(
    "text", ["CUDA error: out of memory\nmore", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_other_words_for_a_full_card_are_understood(card: list[str], text: str) -> None:
    def fail(inputs: Tensor) -> Tensor:
        raise RuntimeError(text)

    with pytest.raises(MachineError, match="the graphics card has too little memory"):
        run(Batches(fail, device="cpu"), np.ones((1, 3), np.uint8))


def test_a_model_of_another_package_is_called_by_one_thread_at_a_time() -> None:
    class Plugin:
        batch = 3

        def __init__(self) -> None:
            self.inside = self.most = 0

        def __call__(self, value: int) -> int:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.001)
            self.inside -= 1
            return value + 1

        def crops(self, value: int) -> int:
            return self(value) * 2

    plugin = Plugin()
    model = InTurns(plugin)
    with ThreadPoolExecutor(8) as threads:
        called = list(threads.map(lambda value: (model(value), model.crops(value)), range(40)))
    assert called == [(value + 1, 2 * value + 2) for value in range(40)]
    assert (plugin.most, model.batch) == (1, 3)


def test_models_are_shared_only_where_an_executor_has_several_callers() -> None:
    assert not is_shared()
    with run_by(Executor(patience_s=1)):
        assert is_shared()
    assert not is_shared()
