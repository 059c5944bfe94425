"""Train the networks of the earlier systems (pipeline.models.classics), each with its own losses.

A random crop of the network's side is cut from a picture 256/227 as large and mirrored half of the time, as Levi and
Hassner do. InceptionV3 and MobileNetV2 learn 101 ages and two genders by cross-entropy, and SSR-Net learns by the mean
absolute error. Levi and Hassner's networks learn eight age groups and two genders by cross-entropy; an age between two
groups belongs to the nearer one. The weights with the smallest age error on the validation faces are kept.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.arrays import Picture
from pipeline.cores.groups import ADIENCE
from pipeline.evaluation.attributes import AGE_GROUPS
from pipeline.models.attributes import YEARS, Calibration
from pipeline.models.classics import Classic, LeviHassner, SsrNets, build_classic, read_imagenet
from pipeline.models.networks import Runner
from pipeline.training import loop
from pipeline.training.attribute_inputs import LabelledFaces, resize
from pipeline.training.calibration import Raw, calibrate
from pipeline.training.heads import KNOTS

BATCH = 32
"""Batch size of the validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTrainingParams:
    """Everything that a training depends on, besides its pictures."""

    epochs: int = 30
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    seed: int = 0


class Best:
    """The weights with the smallest age error, that error in years, and its epoch."""

    def __init__(self, network: nn.Module) -> None:
        self.mae, self.epoch = float("inf"), 0
        self.weights = copy.deepcopy(network.state_dict())

    def take(self, network: nn.Module, mae: float, epoch: int) -> None:
        """Keep the weights of `network` if it is better."""
        if mae < self.mae:
            self.mae, self.epoch, self.weights = mae, epoch, copy.deepcopy(network.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights, error and epoch for a checkpoint."""
        return {"mae": self.mae, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.mae, self.epoch, self.weights = state["mae"], state["epoch"], state["weights"]


def start(name: str, crops: int, params: NetworkTrainingParams, init: Path | None) -> Classic:
    """Return a network of classics.NAMES with random weights, or with those of ImageNet from the file `init`."""
    torch.manual_seed(params.seed)
    network = build_classic(name, crops)
    return network if init is None else read_imagenet(network, init)


def known(faces: pd.DataFrame) -> pd.DataFrame:
    """Return the faces with a gender and an age in the networks' range."""
    return faces[(faces["age"] < YEARS) & faces["gender"].notna()]


def read(faces: pd.DataFrame, read_picture: Callable[[Path], Picture], side_px: int) -> LabelledFaces:
    """Return `faces` (columns path, age, gender), squashed to `side_px`."""
    pictures = np.empty((len(faces), side_px, side_px, 3), np.uint8)
    for path, target in zip(faces["path"], pictures, strict=True):
        target[:] = resize(read_picture(Path(path))[None], side_px)[0]
    return LabelledFaces(pictures, faces["age"].to_numpy(np.float32), (faces["gender"] == "F").to_numpy())


def nearest_groups(ages: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the age group, 0..7, that holds each of (N,) years or is nearest to it. Ties go to the younger group."""
    first, last = np.array(ADIENCE, np.float32).T
    beyond = np.maximum(first - ages[:, None], ages[:, None] - last).clip(0)
    return np.argmin(beyond, axis=1)


def losses(
    network: Classic, ages: Tensor, genders: Tensor, years: NDArray[np.float32], is_female: NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Return the losses of age and gender for the outputs of `network.outputs` and the labels."""
    truth, women = torch.from_numpy(years).to(ages.device), torch.from_numpy(is_female).to(ages.device)
    if isinstance(network, SsrNets):
        age_loss = functional.l1_loss(ages.float(), truth)
        return age_loss, functional.l1_loss(genders.float(), 1 - women.float())
    classes = nearest_groups(years) if isinstance(network, LeviHassner) else np.rint(years).astype(np.int64)
    age_loss = functional.cross_entropy(ages.float(), torch.from_numpy(classes).to(ages.device))
    return age_loss, functional.cross_entropy(genders.float(), women.long())


def train(
    network: Classic,
    training: LabelledFaces,
    validation: LabelledFaces,
    params: NetworkTrainingParams,
    run: loop.Run,
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, figures: None,
    device: str = "cpu",
) -> Classic:
    """Train `network` to the end, from the checkpoint of `run` if there is one, and return it with the best weights.

    The pictures have the side network.stored_px. advance: called with the number of epochs done and their figures.
    """
    loop.seed(params.seed)
    cv2.setNumThreads(1)
    network.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(loop.decayed(network, params.weight_decay), lr=params.learning_rate)
    best = Best(network)
    progress = run.resume(network=network, optimizer=optimizer, best=best)
    while progress.epoch < params.epochs:
        start = time.monotonic()
        figures = _epoch(network, optimizer, training, params, progress.epoch) | validate(network, validation)
        progress.epoch += 1
        best.take(network, figures["mae"], progress.epoch)
        progress.seconds += time.monotonic() - start
        run.save(progress, figures, network=network, optimizer=optimizer, best=best)
        advance(progress.epoch, figures)
    network.load_state_dict(best.weights)
    return network.cpu().eval()


def _epoch(
    network: Classic,
    optimizer: torch.optim.Optimizer,
    faces: LabelledFaces,
    params: NetworkTrainingParams,
    number: int,
) -> dict[str, float]:
    rng = np.random.default_rng([params.seed, number])
    torch.manual_seed(int(rng.integers(2**31)))  # for dropout
    network.train()
    device = loop.device_of(network)
    sums = {"age_loss": 0.0, "gender_loss": 0.0}
    order = rng.permutation(len(faces))
    size = min(params.batch, len(order))
    steps = len(order) // size
    for step in range(steps):
        chosen = order[step * size : (step + 1) * size]
        done = (number + step / steps) / params.epochs
        loop.set_rate(optimizer, params.learning_rate, loop.cosine(done, warm_up=params.warm_up))
        crops = np.stack([cut_anywhere(faces.pictures[index], network.side_px, rng) for index in chosen])
        samples = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
        with torch.autocast(device.type, torch.bfloat16):
            ages, genders = network.outputs(samples)
        both = losses(network, ages, genders, faces.ages[chosen], faces.is_female[chosen])
        optimizer.zero_grad(set_to_none=True)
        sum(both, torch.zeros((), device=device)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        for name, loss in zip(sums, both, strict=True):
            sums[name] += float(loss.detach()) / steps
    return sums


def cut_anywhere(picture: Picture, side_px: int, rng: np.random.Generator) -> Picture:
    """Return a random (side_px, side_px, 3) crop of `picture`, mirrored half of the time."""
    top, left = rng.integers(0, picture.shape[0] - side_px + 1, 2)
    crop = picture[top : top + side_px, left : left + side_px]
    return np.ascontiguousarray(crop[:, ::-1]) if rng.random() < 0.5 else crop


def validate(network: Classic, faces: LabelledFaces) -> dict[str, float]:
    """Return mae (years) and gender_accuracy of the central crop.

    For Levi and Hassner's networks also return the share of faces in their age group, and in it or next to it.
    """
    network.eval()
    means, logits, tops = _judge(network, faces)
    figures = {
        "mae": float(np.abs(means - faces.ages).mean()),
        "gender_accuracy": float(((logits > 0) == faces.is_female).mean()),
    }
    if isinstance(network, LeviHassner):
        off = np.abs(tops - nearest_groups(faces.ages))
        figures |= {"group_accuracy": float((off == 0).mean()), "group_or_next": float((off <= 1).mean())}
    return figures


def _judge(network: Classic, faces: LabelledFaces) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the years, the logits of being female, and the likeliest age class."""

    def forward(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ages, genders = network.outputs(network.middle(pictures))
        years, _, logits = network.raw(ages, genders)
        return years, logits, ages.argmax(1) if ages.ndim == 2 else ages

    means, logits, tops = Runner(forward, batch=BATCH, device=loop.device_of(network).type, half=False)(faces.pictures)
    return means, logits, tops


def calibrated(
    raw: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]], faces: LabelledFaces
) -> Calibration:
    """Return the Calibration of `raw` on `faces`. raw: maps pictures of stored_px to raw ages, spreads and logits."""
    means, spreads, logits = (np.asarray(values, np.float64) for values in raw(faces.pictures))
    ages = faces.ages.astype(np.float64)
    return calibrate(Raw(means, spreads, logits, ages, faces.is_female, np.ones(len(ages))), KNOTS, AGE_GROUPS)
