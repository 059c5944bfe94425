"""The parts that all trainings share: seeds, the schedule, inputs made ahead, averaged weights, and checkpoints.

A run is a folder with `checkpoint.pt` (the last finished epoch, replaced by renaming), `history.csv` (a row per epoch)
and `history.png`. The same command continues from the checkpoint. It gives the numbers of an uninterrupted run, as far
as the order of additions allows.
"""

import csv
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import UserError
from pipeline.evaluation.plots import plot_history

Task = TypeVar("Task")
Inputs = TypeVar("Inputs")

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"


@dataclass(slots=True)
class Progress:
    """The progress of a run.

    epoch: number of finished epochs.
    seconds: time spent on them, over all attempts.
    """

    epoch: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The share of a training that is done, by epochs and, if it has a limit, by the clock.

    epochs: most epochs.
    minutes: most minutes, over all attempts. The learning rate falls to its end at the limit, whatever the speed.
    spent_s: seconds of earlier attempts.
    began_s: time.monotonic() at the start of this attempt.
    """

    epochs: int
    minutes: float | None = None
    spent_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the seconds of all attempts so far."""
        return self.spent_s + time.monotonic() - self.began_s

    def done(self, epoch: float) -> float:
        """Return the share, 0..1, that is done after `epoch` epochs."""
        by_clock = self.seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(epoch / self.epochs, by_clock))


class _Inputs(Dataset[Any]):
    """A data set whose items are made of the sampler's tasks."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __getitem__(self, task: Any) -> Any:
        return self._make(task)


def ahead(
    make: Callable[[Task], Inputs], tasks: Iterable[Task], *, workers: int, pinned: bool = False
) -> Iterator[Inputs]:
    """Yield `make(task)` for each task, in order.

    make: returns tensors in tuples. It draws random numbers from its task alone, so the number of workers does not
        matter.
    workers: number of forked processes that make inputs ahead of their use. 0 makes each one when it is needed, here.
    pinned: put the tensors into memory from which a GPU copies fast.
    """
    if not workers:
        return map(make, tasks)
    forked = {"num_workers": workers, "multiprocessing_context": "fork", "prefetch_factor": 2}
    loader = DataLoader(_Inputs(make), batch_size=None, sampler=tasks, pin_memory=pinned, **forked)  # type: ignore[arg-type]
    return iter(loader)


class Run:
    """The folder of a training run."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """settings: everything that the run depends on, in JSON types. `resume` refuses a folder with other
        settings.

        The folder is made when there is something to keep: a run that fails before leaves none behind.
        """
        self.folder = folder
        self._settings = dict(settings)

    def resume(self, **parts: Any) -> Progress:
        """Load the checkpoint, if there is one, into `parts`.

        parts: objects with state_dict and load_state_dict.

        Raises UserError if the checkpoint belongs to a run with other settings.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            (self.folder / HISTORY).unlink(missing_ok=True)
            return Progress()
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != self._settings:
            differing = sorted(
                key
                for key in state["recipe"].keys() | self._settings.keys()
                if state["recipe"].get(key) != self._settings.get(key)
            )
            raise UserError(
                f"{path} is of a run with other settings ({', '.join(differing)}); "
                "name another --output, or remove this folder to start anew"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        return Progress(state["epoch"], state["seconds"])

    def save(self, progress: Progress, figures: Mapping[str, float | str], **parts: Any) -> None:
        """Finish an epoch: add `figures` to the history, then replace the checkpoint atomically."""
        self._write_history({"epoch": progress.epoch, "seconds": round(progress.seconds, 1), **figures})
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"recipe": self._settings, "rng": torch.get_rng_state()}
        state |= {"epoch": progress.epoch, "seconds": progress.seconds}
        draft = self.folder / f".{CHECKPOINT}.{os.getpid()}"
        torch.save(state, draft)
        draft.replace(self.folder / CHECKPOINT)

    def _write_history(self, row: Mapping[str, float | str]) -> None:
        """Append `row`, and remove rows of this and later epochs that an attempt left which died before its
        checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / HISTORY
        rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < int(row["epoch"])]
        rows.append({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()})
        draft = path.with_name(f".{HISTORY}.{os.getpid()}")
        with draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for written in rows for key in written)))
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(path)
        plot_history(rows, self.folder / "history.png")


def device_of(network: nn.Module) -> torch.device:
    """Return the device that holds the weights of `network`."""
    return next(network.parameters()).device


def use_threads(number: int) -> None:
    """Set the number of threads of torch and OpenCV in this process."""
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


def seed(number: int) -> np.random.Generator:
    """Seed torch and Python, and return a generator for everything that numpy draws."""
    random.seed(number)
    torch.manual_seed(number)
    return np.random.default_rng(number)


def cosine(done: float, *, warm_up: float, end: float = 0.01) -> float:
    """Return the share of the peak learning rate at `done` (0..1): a linear warm-up, then half a cosine down to
    `end`."""
    if done < warm_up:
        return max(done / warm_up, 1e-3)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def set_rate(optimizer: torch.optim.Optimizer, peak: float, share: float) -> None:
    """Set the learning rate of all groups. A group's own `scale` (default 1) multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = peak * share * group.get("scale", 1.0)


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of the weights and of the batch normalisation statistics.

    The decay grows with the number of updates (min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    ExponentialMovingAverage), so the random initial weights are forgotten at once.
    """

    def average(old: Any, new: Any, count: torch.Tensor | int) -> None:
        """Update the tensors of one type at once: one by one, a GPU would wait for each."""
        if old[0].is_floating_point():
            share = 1 - min(decay, (1 + float(count)) / (10 + float(count)))
            torch._foreach_lerp_(old, new, share)  # pyright: ignore[reportPrivateImportUsage]
        else:
            torch._foreach_copy_(old, new)  # pyright: ignore[reportPrivateImportUsage]

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def decayed(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer: weights of layers decay, biases and norms do not."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
