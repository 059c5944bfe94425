"""Meters around the models of a pipeline: how often each is called, how long that takes, and some of its inputs.

The kept inputs are given to the same model again, alone. That is the time which this part of the work needs when
nothing else goes on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.benchmarks.side_by_side import Spent, stopwatch

LOADERS = {
    "person detector": "person_detector",
    "body embedder": "body_embedder",
    "quick face check": "face_check",
    "faces in whole frames": "whole_frame_face_detector",
    "face detector": "face_detector",
    "restorer": "restorer",
    "estimator": "estimator",
    "face embedder": "face_embedder",
}
"""The method of Loader that loads each model."""
KEPT_BYTES = 100 << 20
"""Most bytes of inputs that are kept of one model."""
KEPT_CALLS = 64


@dataclass(slots=True)
class MeteredModel:
    """A model that counts its calls.

    num_calls: calls so far.
    num_samples: pictures, crops or faces so far.
    seconds: s of the clock inside the calls.
    is_counting: whether calls are counted.
    """

    model: Any
    num_calls: int = 0
    num_samples: int = 0
    seconds: float = 0.0
    is_counting: bool = True
    _kept: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    _every: int = 1

    def __call__(self, samples: Any, **options: Any) -> Any:
        if not self.is_counting:
            return self.model(samples, **options)
        if self.num_calls % self._every == 0:
            self._keep(samples, options)
        self.num_calls += 1
        self.num_samples += len(samples)
        started = time.perf_counter()
        try:
            return self.model(samples, **options)
        finally:
            self.seconds += time.perf_counter() - started

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def reset(self) -> None:
        """Forget all calls."""
        self.num_calls = self.num_samples = 0
        self.seconds, self._kept, self._every = 0.0, [], 1

    def repeat(self, share: float) -> Spent:
        """Give kept inputs to the model again, in turn, until `share` of the calls are repeated. Return the time of all
        calls, by that share."""
        count = max(1, round(self.num_calls * share)) if self._kept else 0
        with stopwatch() as spent:
            for number in range(count):
                samples, options = self._kept[number % len(self._kept)]
                self.model(samples, **options)
        scale = self.num_calls / count if count else 0.0
        return Spent(spent.seconds * scale, spent.cpu_seconds * scale)

    def _keep(self, samples: Any, options: dict[str, Any]) -> None:
        """Keep the inputs of calls at even distances. When there are too many, every second one is dropped."""
        copied = samples.copy() if isinstance(samples, np.ndarray) else [np.array(sample) for sample in samples]
        self._kept.append((copied, options))
        size = sum(np.asarray(sample).nbytes for sample in copied)
        while len(self._kept) > min(KEPT_CALLS, max(2, KEPT_BYTES // max(1, size))):
            self._kept, self._every = self._kept[::2], 2 * self._every


@contextmanager
def metered_models() -> Iterator[dict[str, MeteredModel]]:
    """Yield the meters by the names of LOADERS, which fill while the block lives. The stages load their models through
    Loader, which hands out metered models meanwhile."""
    from pipeline.models.loading import Loader  # torch counts its threads from what the environment says by then

    meters: dict[str, MeteredModel] = {}
    before = {method: getattr(Loader, method) for method in LOADERS.values()}

    def metered(name: str, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def load_metered(loader: Any) -> Any:
            model = load(loader)
            if model is None:
                return None
            meters[name] = MeteredModel(model)
            return meters[name]

        return load_metered

    try:
        for name, method in LOADERS.items():
            setattr(Loader, method, metered(name, before[method]))
        yield meters
    finally:
        for method, load in before.items():
            setattr(Loader, method, load)
