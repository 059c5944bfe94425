"""Train heads on the vectors of a face embedder: age (Huber loss), gender and twelve age buckets (cross-entropy).

The vectors of each picture and of its mirror image are computed once and cached under a name that covers everything
they depend on. The three stacks share nothing, so each stops at its best epoch on the validation faces.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.arrays import Picture
from pipeline.cores.age_dist import GROUP_YEARS, GROUPS
from pipeline.evaluation.attributes import AGE_GROUPS, ALIGNED_PX
from pipeline.models.aligned import UTKFACE
from pipeline.models.estimator import BOSCH_YEARS, Heads
from pipeline.models.face_embedder import FaceEmbedder
from pipeline.training import loop
from pipeline.training.calibration import Raw, calibrate

KNOTS = (5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0, 80.0)
"""Raw ages, in years, at which the calibration is fitted."""
STACKS = ("age", "gender", "buckets")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTrainingParams:
    """Everything that a training depends on, besides its vectors.

    patience: number of epochs without a better stack after which the training ends.
    huber_years: smaller errors count quadratically.
    dropouts: of the age and gender stacks. The earlier system had .1 and .5.
    """

    epochs: int = 80
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    warm_up: float = 0.03
    patience: int = 15
    huber_years: float = 2.0
    dropouts: tuple[float, float] = (0.1, 0.1)
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """N faces.

    vectors: (N, D) float32 unit vectors.
    mirrored: (N, D) float32 unit vectors of the mirror images.
    ages: (N,) float32 years.
    is_female: (N,) bool.
    """

    vectors: NDArray[np.float32]
    mirrored: NDArray[np.float32]
    ages: NDArray[np.float32]
    is_female: NDArray[np.bool_]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Vectors":
        return Vectors(self.vectors[chosen], self.mirrored[chosen], self.ages[chosen], self.is_female[chosen])


def embed(
    faces: pd.DataFrame,
    read: Callable[[Path], Picture],
    embedder: FaceEmbedder,
    folder: Path,
    *,
    weights: str,
    batch: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Vectors:
    """Return the vectors of all `faces`, from the cache if they are there.

    The cache is `folder`/vectors-HASH.npz. The hash covers the sha256 `weights`, the view, and the names and sizes of
    the files.

    faces: columns path, name, age and gender. The pictures show UTKFACE's window.
    advance: called with the number of faces done.
    """
    ages, is_female = faces["age"].to_numpy(np.float32), (faces["gender"] == "F").to_numpy()
    names = [f"{row.name} {Path(str(row.path)).stat().st_size}" for row in faces.itertuples(index=False)]
    signature = "\n".join([weights, repr(embedder.view), *names])
    path = folder / f"vectors-{hashlib.sha256(signature.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for start in range(0, len(faces), batch):
            pictures = [read(Path(part)) for part in faces["path"].iloc[start : start + batch]]
            aligned = np.concatenate([UTKFACE.fill(picture[None], ALIGNED_PX) for picture in pictures])
            turned = np.concatenate([UTKFACE.fill(picture[None, :, ::-1], ALIGNED_PX) for picture in pictures])
            parts.append((embedder(aligned), embedder(turned)))
            advance(start + len(pictures))
        vectors, mirrored = (np.concatenate(part) for part in zip(*parts, strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{path.name}"
        with draft.open("wb") as file:
            np.savez(file, vectors=vectors, mirrored=mirrored)
        draft.replace(path)
    with np.load(path) as kept:
        return Vectors(kept["vectors"], kept["mirrored"], ages, is_female)


class Best:
    """The weights of each stack at its best epoch.

    losses: stack -> its loss on the validation faces.
    """

    def __init__(self, network: nn.Module) -> None:
        self.losses = dict.fromkeys(STACKS, float("inf"))
        self.epochs = dict.fromkeys(STACKS, 0)
        self.weights = copy.deepcopy(network.state_dict())

    def take(self, network: nn.Module, losses: Mapping[str, float], epoch: int) -> None:
        """Keep the stacks of `network` that have improved."""
        for stack in STACKS:
            if losses[stack] < self.losses[stack]:
                self.losses[stack], self.epochs[stack] = losses[stack], epoch
                for name, tensor in network.state_dict().items():
                    if name.startswith(f"{stack}."):
                        self.weights[name] = tensor.detach().clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the best losses and weights for a checkpoint."""
        return {"losses": self.losses, "epochs": self.epochs, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.losses, self.epochs, self.weights = (dict(state[name]) for name in ("losses", "epochs", "weights"))


def train(
    training: Vectors,
    validation: Vectors,
    params: HeadTrainingParams,
    run: loop.Run,
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, figures: None,
    device: str = "cpu",
) -> Heads:
    """Train to the end, from the checkpoint of `run` if there is one, and return the best stacks, on the CPU.

    advance: called with the number of epochs done and their figures.
    """
    loop.seed(params.seed)
    dimensions = training.vectors.shape[1]
    heads = Heads(dimensions, params.dropouts)
    with torch.no_grad():  # unit vectors have small components; this scales them as if each had a variance of one
        for stack in STACKS:
            getattr(heads, stack)[0].weight *= dimensions**0.5
    heads.to(torch.device(device))
    optimizer = torch.optim.AdamW(loop.decayed(heads, params.weight_decay), lr=params.learning_rate)
    best = Best(heads)
    progress = run.resume(heads=heads, optimizer=optimizer, best=best)
    while progress.epoch < params.epochs and progress.epoch - max(best.epochs.values()) < params.patience:
        start = time.monotonic()
        rng = np.random.default_rng([params.seed, progress.epoch])
        heads.train()
        order = rng.permutation(len(training.ages))
        for first in range(0, len(order), params.batch):
            chosen = order[first : first + params.batch]
            done = (progress.epoch + first / len(order)) / params.epochs
            loop.set_rate(optimizer, params.learning_rate, loop.cosine(done, warm_up=params.warm_up))
            vectors = np.where(
                rng.random(len(chosen))[:, None] < 0.5, training.mirrored[chosen], training.vectors[chosen]
            )
            years, logits, buckets = heads.logits(torch.from_numpy(vectors).to(device))
            losses = _losses(years, logits, buckets, training.ages[chosen], training.is_female[chosen], params)
            optimizer.zero_grad(set_to_none=True)
            sum(losses.values(), torch.zeros((), device=device)).backward()
            optimizer.step()
        progress.epoch += 1
        figures = _figures(heads, validation, params)
        best.take(
            heads, {"age": figures["mae"], "gender": figures["gender"], "buckets": figures["buckets"]}, progress.epoch
        )
        progress.seconds += time.monotonic() - start
        run.save(progress, figures, heads=heads, optimizer=optimizer, best=best)
        advance(progress.epoch, figures)
    heads.load_state_dict(best.weights)
    return heads.cpu().eval()


def calibrated(raw: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]], validation: Vectors) -> Any:
    """Return the Calibration of `raw` on the validation faces.

    raw: maps vectors to ages, spreads and logits of being female.
    """
    means, spreads, logits = (np.asarray(values, np.float64) for values in raw(validation.vectors))
    ages = validation.ages.astype(np.float64)
    return calibrate(Raw(means, spreads, logits, ages, validation.is_female, np.ones(len(ages))), KNOTS, AGE_GROUPS)


def _losses(
    years: Tensor,
    logits: Tensor,
    buckets: Tensor,
    ages: NDArray[np.float32],
    is_female: NDArray[np.bool_],
    params: HeadTrainingParams,
) -> dict[str, Tensor]:
    truth = torch.from_numpy(ages).to(years.device)
    women = torch.from_numpy(is_female).to(years.device).float()
    bucket = (truth / GROUP_YEARS).long().clamp(0, GROUPS - 1)
    return {
        "age": functional.huber_loss(years, truth.clamp(max=BOSCH_YEARS), delta=params.huber_years)
        / params.huber_years,
        "gender": functional.binary_cross_entropy_with_logits(logits, women),
        "buckets": functional.cross_entropy(buckets, bucket),
    }


@torch.inference_mode()
def _figures(heads: Heads, faces: Vectors, params: HeadTrainingParams) -> dict[str, float]:
    heads.eval()
    years, logits, buckets = heads.logits(torch.from_numpy(faces.vectors).to(loop.device_of(heads)))
    losses = _losses(years, logits, buckets, faces.ages, faces.is_female, params)
    return {
        "mae": float(np.abs(years.cpu().numpy() - faces.ages).mean()),
        "gender_accuracy": float(((logits.cpu().numpy() > 0) == faces.is_female).mean()),
        "gender": float(losses["gender"]),
        "buckets": float(losses["buckets"]),
    }
