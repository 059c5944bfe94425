"""Train the network of the quick face check (pipeline.models.face_check) on crops of people with labelled faces.

A face belongs to the cells near its middle (as in FCOS: Tian et al. 2019). Cells on the rest of a face, and on a face
too small to see, are neither right nor wrong. All others are background, weighted by how wrong they are (focal loss:
Lin et al. 2017).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Picture
from pipeline.models.face_check import STRIDE, FaceCheckNet
from pipeline.training import loop
from pipeline.training.detector_inputs import Example, compose

SMALLEST_PX = 6.0
"""px of the input. Narrower faces are not taught."""
CORE = 0.3
"""Cells whose middle is at most this share of the face's sides from its middle belong to the face."""
FOCUS = 2.0
"""Exponent of the focal loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCheckTrainingParams:
    """Everything that a training depends on, besides its pictures.

    minutes: most minutes, or None.
    size: px. Side of the square inputs.
    mosaic: share of inputs that are made of four crops.
    sides_gain: weight of the loss of the boxes.
    """

    epochs: int = 40
    minutes: float | None = None
    batch: int = 64
    size: int = 96
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warm_up: float = 0.03
    ema_decay: float = 0.998
    mosaic: float = 0.25
    sides_gain: float = 0.5
    seed: int = 0


class Inputs(NamedTuple):
    """The inputs of one step. C is the number of cells on a side of the picture.

    pictures: (B, S, S, 3) uint8 RGB.
    targets: (B, C, C) float32. 1 on faces, 0 on background, nan where both are right.
    places: (B, 4, C, C) float32. The box of the face of each cell, as FaceCheckNet returns it. nan without a face.
    done: share of the training that is done, 0..1.
    """

    pictures: Tensor
    targets: Tensor
    places: Tensor
    done: float


def targets_of(boxes: NDArray[np.floating], size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the `targets` and `places` of one picture of `size` px with (N, 4) faces, as in Inputs."""
    count = size // STRIDE
    targets = np.zeros((count, count), np.float32)
    places = np.full((4, count, count), np.nan, np.float32)
    y, x = (np.indices((count, count)) + 0.5) * STRIDE
    # Smaller faces come later, so that they keep their cells before larger ones.
    for left, top, right, bottom in sorted(boxes.tolist(), key=lambda box: (box[0] - box[2]) * (box[3] - box[1])):
        width, height, middle_x, middle_y = right - left, bottom - top, (left + right) / 2, (top + bottom) / 2
        on_face = (x > left) & (x < right) & (y > top) & (y < bottom)
        nearest = min(int(middle_y / STRIDE), count - 1), min(int(middle_x / STRIDE), count - 1)
        on_face[nearest] = True
        targets[on_face & (targets == 0)] = np.nan
        if min(width, height) < SMALLEST_PX:
            continue
        in_core = (np.abs(x - middle_x) <= CORE * width) & (np.abs(y - middle_y) <= CORE * height)
        in_core[nearest] = True
        targets[in_core] = 1
        sides = np.full(x.shape, np.log(width / STRIDE)), np.full(x.shape, np.log(height / STRIDE))
        places[:, in_core] = np.stack([(middle_x - x) / STRIDE, (middle_y - y) / STRIDE, *sides])[:, in_core]
    return targets, places


class Trainer:
    """One training over `examples`.

    workers: number of processes that compose inputs ahead of their use.
    """

    def __init__(
        self, examples: Sequence[Example], params: FaceCheckTrainingParams, device: str = "cpu", workers: int = 0
    ) -> None:
        loop.seed(params.seed)
        self.examples, self.params = examples, params
        self.schedule = loop.Schedule(params.epochs, params.minutes)
        self._device, self._workers = torch.device(device), workers
        self.network = FaceCheckNet().to(self._device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        nn.init.constant_(cast(Tensor, self.network.head.bias)[:1], -4.0)  # nearly all cells are background
        self.average = loop.averaged(self.network, params.ema_decay)
        self.optimizer = torch.optim.AdamW(
            loop.decayed(self.network, params.weight_decay), lr=params.learning_rate, fused=True
        )
        self.steps_per_epoch = len(examples) // params.batch

    def parts(self) -> dict[str, Any]:
        """Return the parts of a checkpoint."""
        return {"network": self.network, "average": self.average, "optimizer": self.optimizer}

    def inputs(self, first_epoch: int) -> Iterator[Inputs]:
        """Return the inputs of all steps from `first_epoch` to the end of the training."""
        return loop.ahead(
            self._composed,
            self._tasks(first_epoch),
            workers=self._workers,
            pinned=self._device.type == "cuda",
        )

    def _tasks(self, first_epoch: int) -> Iterator[tuple[int, int, list[int], float]]:
        for epoch in range(first_epoch, self.params.epochs):
            order = np.random.default_rng([self.params.seed, epoch]).permutation(len(self.examples))
            for step in range(self.steps_per_epoch):
                done = self.schedule.done(epoch + step / self.steps_per_epoch)
                if done == 1:
                    return
                yield epoch, step, order[step * self.params.batch : (step + 1) * self.params.batch].tolist(), done

    def _composed(self, task: tuple[int, int, list[int], float]) -> Inputs:
        epoch, step, chosen, done = task
        params, rng = self.params, np.random.default_rng([self.params.seed, epoch, step])
        pictures: list[Picture] = []
        labels: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for index in chosen:
            is_mosaic = rng.random() < params.mosaic
            picture, boxes, _ = compose(self.examples, index, params.size, mosaic=is_mosaic, close=0.0, rng=rng)
            pictures.append(picture)
            labels.append(targets_of(boxes, params.size))
        targets, places = (torch.from_numpy(np.stack(column)) for column in zip(*labels, strict=True))
        return Inputs(torch.from_numpy(np.stack(pictures)), targets, places, done)

    def step(self, inputs: Inputs) -> dict[str, float]:
        """Learn from the inputs of one step, and return its losses."""
        params, device = self.params, self._device
        pictures = inputs.pictures.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
        loop.set_rate(self.optimizer, params.learning_rate, loop.cosine(inputs.done, warm_up=params.warm_up))
        losses = losses_of(self.network(pictures), inputs.targets.to(device), inputs.places.to(device))
        loss = losses["score"] + params.sides_gain * losses["box"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return {name: float(value.detach()) for name, value in losses.items()}


def losses_of(maps: Tensor, targets: Tensor, places: Tensor) -> dict[str, Tensor]:
    """Return the losses of the scores and of the boxes for (B, 5, C, C) outputs, per cell that belongs to a face."""
    is_known, on_face = ~targets.isnan(), targets == 1
    count = on_face.sum().clamp(min=1)
    logits, wanted = maps[:, 0][is_known], targets[is_known]
    wrong = (torch.sigmoid(logits) - wanted).abs().detach()
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    box = nn.functional.smooth_l1_loss(
        maps[:, 1:].permute(0, 2, 3, 1)[on_face], places.permute(0, 2, 3, 1)[on_face], beta=0.1, reduction="sum"
    )
    return {"score": (wrong**FOCUS * entropy).sum() / count, "box": box / (4 * count)}


def train(
    trainer: Trainer,
    run: loop.Run,
    figures: Callable[[FaceCheckNet], Mapping[str, float]],
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, losses: None,
) -> FaceCheckNet:
    """Train to the end, from the checkpoint of `run` if there is one, and return the averaged network, on the CPU.

    figures: computes the averaged network's figures for the history, after each epoch.
    advance: called after each step with the number of steps done and its losses.
    """
    progress = run.resume(**trainer.parts())
    average = cast(FaceCheckNet, trainer.average.module)
    trainer.schedule = loop.Schedule(trainer.params.epochs, trainer.params.minutes, progress.seconds)
    stream, steps = trainer.inputs(progress.epoch), trainer.steps_per_epoch
    while trainer.schedule.done(progress.epoch) < 1:
        trainer.network.train()
        losses: list[Mapping[str, float]] = []
        for inputs in islice(stream, steps):
            losses.append(trainer.step(inputs))
            advance(progress.epoch * steps + len(losses), losses[-1])
        if not losses:
            break
        progress.epoch += 1
        row = {name: float(np.mean([each[name] for each in losses])) for name in losses[0]}
        progress.seconds = trainer.schedule.seconds
        run.save(progress, row | dict(figures(average)), **trainer.parts())
    return average.cpu().eval()
