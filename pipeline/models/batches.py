"""Run a network on batches of fixed shapes: pinned memory, CUDA graphs, one wait per batch.

On a CPU the function simply runs. On a card, each shape has memory of its own. After a few batches its kernels are
captured as a CUDA graph, which starts them all at once. A graph replays the same kernels, so the bits stay the same.
Where several spans share a process, an executor fills the batches from all of them.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pipeline.errors import CardError, lack_of
from pipeline.models.executor import Executor, Lane, Write
from pipeline.models.per_thread import PerThread

Forward = Callable[..., Tensor | tuple[Tensor, ...]]

MOST_SHAPES = 4
"""Shapes that keep their memory and graph. The one that was not used for the longest time goes first."""
EAGER_BATCHES = 3
"""Batches of a shape before its graph is captured. They choose the kernels, which the graph then holds. A shape that is
seldom used, such as that of a single picture, is not worth a graph."""
card_turn = threading.Lock()
"""Held by the thread that uses the card, so that no other thread starts kernels while a graph is captured."""
_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)
_has_threads: ContextVar[bool] = ContextVar("has_threads", default=False)


@contextmanager
def run_by(executor: Executor | None, *, has_threads: bool = False) -> Iterator[None]:
    """Let `executor` run the batches of every network that is loaded in the block. None: each caller runs its own.

    has_threads: whether several threads will call the models even without an executor.
    """
    before, had_threads = _executor.set(executor), _has_threads.set(has_threads)
    try:
        yield
    finally:
        _executor.reset(before)
        _has_threads.reset(had_threads)


@contextmanager
def on_card() -> Iterator[None]:
    """Let the caller alone use the card in the block. Raises MachineError if its memory is full, and CardError after a
    failure that it does not survive."""
    try:
        with card_turn:
            yield
    except RuntimeError as error:
        if lack := lack_of(error):
            raise lack from error
        if "CUDA error" in str(error):
            raise CardError(str(error).splitlines()[0]) from error
        raise


def is_shared() -> bool:
    """Return whether several threads will call the models that are loaded now."""
    return _executor.get() is not None or _has_threads.get()


def executor_of_models() -> Executor | None:
    """Return the executor that runs the batches of the models that are loaded now."""
    return _executor.get()


class InTurns:
    """A model of another package, which may expect a single caller. Threads take turns."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with card_turn:
            return self._model(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._model, name)
        return InTurns(attribute) if callable(attribute) else attribute


class Batches:
    """Runs `forward` on batches of fixed shapes.

    forward: maps a batch on `device` to one or several tensors, a row for each sample. It must not wait for the card.
        It may take numbers besides, which shape its kernels.
    keep: returns the tensors besides weights and inputs that the last forward pass read, for example anchors. A graph
        reads them where they were, so they must stay.
    graphs: whether to capture graphs on a card. Without them the bits are the same, and small networks are slower.
    padding: value of the samples that fill a batch up.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        device: str | torch.device,
        keep: Callable[[], Any] | None = None,
        graphs: bool = True,
        padding: int = 0,
    ) -> None:
        self._forward = forward
        self._device = torch.device(device)
        self._keep = keep
        self._padding = padding
        self._shapes: OrderedDict[tuple[Any, ...], tuple[_Batch, Lane]] = OrderedDict()
        self._shapes_lock = threading.Lock()
        self._executor = _executor.get()
        self.graphs = graphs

    def run(
        self, shape: Sequence[int], dtype: DTypeLike, write: Write, count: int, *numbers: int
    ) -> list[NDArray[Any]]:
        """Run up to a batch of samples. Return `count` rows of each output, floats as float32.

        shape: of a batch.
        write: writes samples into the given rows of a batch, which hold older ones. An executor may call it several
            times, for rows of several batches.
        count: number of samples, at most shape[0].
        numbers: what `forward` takes besides the batch.
        """
        batch, lane = self._of_shape(shape, dtype, numbers)
        if self._executor is not None:
            return self._executor.run(lane, write, count)
        write(batch.memory[:count], 0)
        return lane.run(batch.memory, count)

    @property
    def num_graphs(self) -> int:
        """Return the number of shapes that run as graphs."""
        return sum(batch.has_graph for batch, _ in self._shapes.values())

    def _of_shape(self, shape: Sequence[int], dtype: DTypeLike, numbers: tuple[int, ...]) -> "tuple[_Batch, Lane]":
        key = (*shape, np.dtype(dtype), numbers)
        with self._shapes_lock:
            both = self._shapes.pop(key, None)
            if both is None:
                batch = _Batch(shape, dtype, self._device)
                both = batch, Lane(shape[0], batch.new_memory, partial(self._run, batch, numbers))
            self._shapes[key] = both
            if len(self._shapes) > MOST_SHAPES:
                self._shapes.popitem(last=False)
        return both

    def _run(self, batch: "_Batch", numbers: tuple[int, ...], memory: NDArray[Any], count: int) -> list[NDArray[Any]]:
        memory[count:] = self._padding
        forward = (lambda samples: self._forward(samples, *numbers)) if numbers else self._forward
        with torch.inference_mode():
            return batch.run(forward, self._keep, memory, count, graphs=self.graphs)


class _Batch:
    """The memory and the graph of one shape."""

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, device: torch.device) -> None:
        self._shape, self._kind = tuple(shape), torch.from_numpy(np.empty(0, dtype)).dtype
        self._device, self._is_on_card = device, is_card(device)
        self._pinned: dict[int, Tensor] = {}
        self._inputs: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, ...] = ()
        self._kept: Any = None
        self._down: list[Tensor] = []
        self._num_eager = 0
        self._memory = PerThread(self.new_memory)

    @property
    def memory(self) -> NDArray[Any]:
        """A batch in memory of the host, for a thread that runs one after the other."""
        return self._memory()

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def new_memory(self) -> NDArray[Any]:
        """Return memory of the host for a batch."""
        tensor = host_memory(self._shape, self._kind, self._device)
        memory = tensor.numpy()
        if self._is_on_card:
            self._pinned[memory.ctypes.data] = tensor
        return memory

    def run(
        self, forward: Forward, keep: Callable[[], Any] | None, memory: NDArray[Any], count: int, *, graphs: bool
    ) -> list[NDArray[Any]]:
        """Run the batch in `memory`, which `new_memory` returned."""
        if not self._is_on_card:
            return [output[:count].numpy() for output in _plain(forward(torch.from_numpy(memory)))]
        with on_card():
            return self._run_on_card(forward, keep, self._pinned[memory.ctypes.data], count, graphs=graphs)

    def _run_on_card(
        self, forward: Forward, keep: Callable[[], Any] | None, staged: Tensor, count: int, *, graphs: bool
    ) -> list[NDArray[Any]]:
        if self._inputs is None:
            self._inputs = torch.empty_like(staged, device=self._device)
        if graphs and self._graph is None and self._num_eager == EAGER_BATCHES:
            self._capture(forward, keep, self._inputs)
        self._inputs.copy_(staged, non_blocking=True)
        if graphs and self._graph is not None:
            self._graph.replay()
            outputs = self._outputs
        else:
            self._num_eager += 1
            outputs = _plain(forward(self._inputs))
        self._down = self._down or [host_memory(each.shape, each.dtype, self._device) for each in outputs]
        for host, output in zip(self._down, outputs, strict=True):
            host.copy_(output, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return [host[:count].numpy().copy() for host in self._down]

    def _capture(self, forward: Forward, keep: Callable[[], Any] | None, inputs: Tensor) -> None:
        self._num_eager += 1  # a failure is not repeated
        graph = torch.cuda.CUDAGraph()
        try:
            # In the strict mode, an allocation by another thread of this process would end the capture.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = _plain(forward(inputs))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            logging.getLogger(__name__).warning(
                "no CUDA graph for batches of %s, so they run slower: %s", tuple(inputs.shape), reason
            )
            return
        self._graph, self._outputs, self._kept = graph, outputs, keep() if keep else None


def is_card(device: torch.device) -> bool:
    return device.type == "cuda"


def host_memory(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory of the host. A card reads and writes it without a further copy, because it is pinned."""
    return torch.empty(shape, dtype=dtype, pin_memory=is_card(device))


def _plain(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs as contiguous tensors, floats as float32."""
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple((each.float() if each.is_floating_point() else each).contiguous() for each in tensors)
