"""Run a network on batches of fixed shapes: pinned memory, CUDA graphs, one wait per batch.

On a CPU the function simply runs. On a card, each shape has memory of its own. After a few batches its kernels are
captured as a CUDA graph, which starts them all at once. A graph replays the same kernels, so the bits stay the same.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

Forward = Callable[[Tensor], Tensor | tuple[Tensor, ...]]

MOST_SHAPES = 4
"""Shapes that keep their memory and graph. The one that was not used for the longest time goes first."""
EAGER_BATCHES = 3
"""Batches of a shape before its graph is captured. They choose the kernels, which the graph then holds. A shape that is
seldom used, such as that of a single picture, is not worth a graph."""


class Batches:
    """Runs `forward` on batches of fixed shapes.

    forward: maps a batch on `device` to one or several tensors, a row for each sample. It must not wait for the card.
    keep: returns the tensors besides weights and inputs that the last forward pass read, for example anchors. A graph
        reads them where they were, so they must stay.
    graphs: whether to capture graphs on a card. Without them the bits are the same, and small networks are slower.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        device: str | torch.device,
        keep: Callable[[], Any] | None = None,
        graphs: bool = True,
    ) -> None:
        self._forward = forward
        self._device = torch.device(device)
        self._keep = keep
        self._shapes: OrderedDict[tuple[Any, ...], _Batch] = OrderedDict()
        self.graphs = graphs

    def run(
        self, shape: Sequence[int], dtype: DTypeLike, write: Callable[[NDArray[Any]], None], count: int
    ) -> list[NDArray[Any]]:
        """Run one batch, and return the first `count` rows of each output, floats as float32.

        write: writes the whole batch into an array of `shape` and `dtype`, which holds an earlier batch.
        """
        key = (*shape, np.dtype(dtype))
        batch = self._shapes.pop(key, None) or _Batch(shape, dtype, self._device)
        self._shapes[key] = batch
        if len(self._shapes) > MOST_SHAPES:
            self._shapes.popitem(last=False)
        write(batch.host)
        with torch.inference_mode():
            return batch.run(self._forward, self._keep, count, graphs=self.graphs)

    @property
    def num_graphs(self) -> int:
        """Return the number of shapes that run as graphs."""
        return sum(batch.has_graph for batch in self._shapes.values())


class _Batch:
    """The memory and the graph of one shape.

    host: the batch in memory of the host.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, device: torch.device) -> None:
        self._is_on_card = is_card(device)
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        self._staged = _staged(tuple(shape), kind) if self._is_on_card else torch.empty(tuple(shape), dtype=kind)
        self.host: NDArray[Any] = self._staged.numpy()
        self._inputs = torch.empty_like(self._staged, device=device) if self._is_on_card else self._staged
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, ...] = ()
        self._kept: Any = None
        self._down: list[Tensor] = []
        self._num_eager = 0

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def run(self, forward: Forward, keep: Callable[[], Any] | None, count: int, *, graphs: bool) -> list[NDArray[Any]]:
        if not self._is_on_card:
            return [output[:count].numpy() for output in _plain(forward(self._inputs))]
        if graphs and self._graph is None and self._num_eager == EAGER_BATCHES:
            self._capture(forward, keep)
        self._inputs.copy_(self._staged, non_blocking=True)
        if graphs and self._graph is not None:
            self._graph.replay()
            outputs = self._outputs
        else:
            self._num_eager += 1
            outputs = _plain(forward(self._inputs))
        self._down = self._down or [_staged(each.shape, each.dtype) for each in outputs]
        for host, output in zip(self._down, outputs, strict=True):
            host.copy_(output, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return [host[:count].numpy().copy() for host in self._down]

    def _capture(self, forward: Forward, keep: Callable[[], Any] | None) -> None:
        self._num_eager += 1  # a failure is not repeated
        graph = torch.cuda.CUDAGraph()
        try:
            # In the strict mode, an allocation by another thread of this process would end the capture.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = _plain(forward(self._inputs))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            logging.getLogger(__name__).warning(
                "no CUDA graph for batches of %s, so they run slower: %s", tuple(self._inputs.shape), reason
            )
            return
        self._graph, self._outputs, self._kept = graph, outputs, keep() if keep else None


def is_card(device: torch.device) -> bool:
    return device.type == "cuda"


def _staged(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return pinned memory, which a card reads and writes without a further copy."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _plain(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs as contiguous tensors, floats as float32."""
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple((each.float() if each.is_floating_point() else each).contiguous() for each in tensors)
