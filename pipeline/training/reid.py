"""Train a body embedder, an OSNet (Zhou et al., ICCV 2019), from random weights, optionally with a teacher.

Labelled crops teach identity: cross-entropy with label smoothing, and the batch-hard triplet loss (Hermans et al.,
2017) on P people with K crops each.

A teacher of the same architecture adds what a few hundred people cannot teach: the cosine to its vectors (Hinton et
al., 2015) and its features after each stage (FitNets, Romero et al., 2015), also on unlabelled crops. In the first
steps each stage learns alone, from the teacher's features of the stage before, so random weights below cannot spoil
it. Then the whole network runs. Teacher and student get the same crop, mirrored, shifted and tinted alike. Only the
student gets it occluded, erased, blurred and scaled down. So it learns to describe a hidden person as the teacher
describes a visible one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.evaluation.reid import normalised, rank
from pipeline.models.body_embedder import DIMENSIONS, build_osnet, load_osnet
from pipeline.training import loop
from pipeline.training.reid_crops import Augmentation, People, samples, shared_view, student_view
from pipeline.training.reid_losses import feature_loss, run_stages, stages_of, triplet_loss, vector_loss

ARCHITECTURE = "osnet_x0_25"
VALIDATED = 0.05
"""Share of the unlabelled crops that measure the similarity to the teacher and are not trained on."""
BATCH = 64
"""Batch size of the evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReidTrainingParams:
    """Everything that a training depends on, besides its crops.

    An epoch has as many crops as the corpus. With a teacher, half of a batch is labelled; without one, all of it.

    people_per_batch, crops_per_person: the labelled part of a batch.
    staged: share of the steps in which each stage learns alone.
    settled: share of the steps after which batch normalisation uses its running averages, as the teacher's does. The
        statistics of a small batch differ from those of the next, and no weights make up for that.
    feature_gain, vector_gain, identity_gain, triplet_gain: factors of the losses.
    """

    epochs: int = 14
    people_per_batch: int = 3
    crops_per_person: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    warm_up: float = 0.03
    ema_decay: float = 0.998
    staged: float = 0.2
    settled: float = 0.3
    vector_gain: float = 10.0
    feature_gain: float = 1.0
    identity_gain: float = 0.3
    triplet_gain: float = 1.0
    margin: float = 0.3
    smoothing: float = 0.1
    seed: int = 0


def read_teacher(path: Path) -> nn.Module:
    """Return the teacher in `path`. Raises UserError if it has another architecture."""
    network, architecture = load_osnet(path)
    if architecture != ARCHITECTURE:
        raise UserError(f"{path} holds an {architecture}; the teacher must be an {ARCHITECTURE}")
    return network


class Trainer:
    """A network, its averaged copy, and the optimizer that changes them."""

    def __init__(
        self,
        labelled: People,
        unlabelled: NDArray[np.uint8],
        params: ReidTrainingParams,
        augmentation: Augmentation,
        teacher: nn.Module | None,
        device: str = "cpu",
    ) -> None:
        """Prepare a training.

        unlabelled: (M, 256, 128, 3) crops. Used only with a teacher. The last twentieth is for validation.
        device: where the network is trained. The teacher is moved there.
        """
        self._device = torch.device(device)
        loop.seed(params.seed)
        self.params, self._augmentation = params, augmentation
        self._labelled = labelled
        self._names = np.unique(labelled.people, return_inverse=True)[1]
        order = np.random.default_rng(params.seed).permutation(len(unlabelled))
        count = round(len(unlabelled) * (1 - VALIDATED))
        self._unlabelled, self._validation = unlabelled[order[:count]], unlabelled[order[count:]]
        self.network = build_osnet(ARCHITECTURE).to(self._device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.average = loop.averaged(self.network, params.ema_decay)
        self.classifier = nn.Linear(DIMENSIONS, int(self._names.max()) + 1, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.01)
        self.classifier.to(self._device)
        self._stages = stages_of(self.network)
        self._teacher = None
        if teacher is not None:
            self._teacher = stages_of(teacher.to(self._device, memory_format=torch.channels_last))  # pyright: ignore[reportCallIssue]
        groups = [*loop.decayed(self.network, params.weight_decay), *loop.decayed(self.classifier, params.weight_decay)]
        self.optimizer = torch.optim.AdamW(groups, lr=params.learning_rate)
        size = params.people_per_batch * params.crops_per_person * (1 if teacher is None else 2)
        self.steps_per_epoch = max(1, (len(labelled.crops) + len(self._unlabelled)) // size)

    def parts(self) -> dict[str, Any]:
        """Return the parts of a checkpoint."""
        return {
            "network": self.network,
            "average": self.average,
            "classifier": self.classifier,
            "optimizer": self.optimizer,
        }

    def epoch(self, number: int) -> Iterator[dict[str, float]]:
        """Train epoch `number`, from 0, and yield the losses of each step."""
        rng = np.random.default_rng([self.params.seed, number])
        self.network.train()
        people = _people_in_turn(self._names, self.params, rng)
        others = _in_turn(len(self._labelled.crops) + len(self._unlabelled), rng)
        for step in range(self.steps_per_epoch):
            done = (number + step / self.steps_per_epoch) / self.params.epochs
            chosen = next(people)
            crops = [self._labelled.crops[index] for index in chosen]
            if self._teacher is not None:
                crops += [self._any(next(others)) for _ in chosen]
            yield self._step(crops, torch.from_numpy(self._names[chosen]).to(self._device), done, rng)

    def _any(self, index: int) -> Picture:
        """Return a crop by its index among all crops, the labelled ones first."""
        count = len(self._labelled.crops)
        return self._labelled.crops[index] if index < count else self._unlabelled[index - count]

    def _step(
        self, crops: Sequence[Picture], people: Tensor, done: float, rng: np.random.Generator
    ) -> dict[str, float]:
        params = self.params
        alike = [shared_view(crop, self._augmentation, rng) for crop in crops]
        others = rng.integers(0, len(alike), len(alike))
        spoilt, are_whole = zip(
            *(
                student_view(crop, alike[other], self._augmentation, rng)
                for crop, other in zip(alike, others, strict=True)
            ),
            strict=True,
        )
        whole = torch.tensor(are_whole, device=self._device)
        loop.set_rate(self.optimizer, params.learning_rate, loop.cosine(done, warm_up=params.warm_up))
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(done < params.settled)
        losses: dict[str, Tensor] = {}
        zero = torch.zeros((), device=self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            theirs: list[Tensor] = []
            if self._teacher is not None:
                with torch.no_grad():
                    theirs = run_stages(self._teacher, samples(alike).to(self._device))
            staged = bool(theirs) and done < params.staged
            ours = run_stages(
                self._stages, samples(alike if staged else spoilt).to(self._device), theirs if staged else None
            )
        if theirs:
            # Occluded parts cannot show in the feature maps, so those are compared only for complete crops.
            compared = torch.ones_like(whole) if staged or not whole.any() else whole
            pairs = zip(ours[:-1], theirs[:-1], strict=True)
            losses["features"] = sum((feature_loss(a[compared], b[compared]) for a, b in pairs), zero)
            losses["vectors"] = vector_loss(ours[-1], theirs[-1])
        if not staged:
            named = ours[-1][: len(people)].float()
            losses["identity"] = functional.cross_entropy(
                self.classifier(named), people, label_smoothing=params.smoothing
            )
            losses["triplet"] = triplet_loss(named, people, params.margin)
        gains = {
            "features": params.feature_gain,
            "vectors": params.vector_gain,
            "identity": params.identity_gain if theirs else 1.0,
            "triplet": params.triplet_gain,
        }
        loss = sum((gains[name] * value for name, value in losses.items()), zero)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.network.parameters(), *self.classifier.parameters()], 5.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return {name: float(value.detach()) for name, value in losses.items()}

    def figures(self, held_out: People) -> dict[str, float]:
        """Return figures of the averaged network.

        They are rank-1 and mAP of `held_out` from its first camera to its second, and the mean cosine to the teacher's
        vectors on the validation crops.
        """
        network = self.average.module.eval()
        figures: dict[str, float] = {}
        if len(held_out.crops):
            vectors = normalised(vectors_of(network, held_out.crops))
            ranking = rank(
                vectors,
                held_out.people,
                held_out.cameras,
                queries=held_out.cameras == 0,
                gallery=held_out.cameras == 1,
            )
            if len(ranking.people):
                figures |= {"rank1": float(ranking.hits.mean()), "map": float(ranking.precisions.mean())}
        if self._teacher is not None and len(self._validation):
            theirs = vectors_of(nn.Sequential(*self._teacher), self._validation)
            ours = vectors_of(network, self._validation)
            figures["likeness"] = float(np.mean(np.sum(normalised(ours) * normalised(theirs), axis=1)))
        return figures


def train(
    trainer: Trainer,
    run: loop.Run,
    held_out: People,
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, losses: None,
) -> nn.Module:
    """Train to the end, from the checkpoint of `run` if there is one, and return the averaged network of the last
    epoch, on the CPU.

    held_out: crops for the history only.
    advance: called after each step with the number of steps done and its losses.
    """
    progress = run.resume(**trainer.parts())
    advance(progress.epoch * trainer.steps_per_epoch, {})
    while progress.epoch < trainer.params.epochs:
        start = time.monotonic()
        sums: dict[str, float] = {}
        for count, losses in enumerate(trainer.epoch(progress.epoch), start=1):
            advance(progress.epoch * trainer.steps_per_epoch + count, losses)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / trainer.steps_per_epoch
        progress.epoch += 1
        row = sums | trainer.figures(held_out)
        progress.seconds += time.monotonic() - start
        run.save(progress, row, **trainer.parts())
    return trainer.average.module.cpu().eval()


@torch.inference_mode()
def vectors_of(network: nn.Module, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 512) vectors of (N, 256, 128, 3) crops, computed in bfloat16."""
    device = loop.device_of(network)
    parts = [np.zeros((0, DIMENSIONS), np.float32)]
    for start in range(0, len(crops), BATCH):
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(network(samples(crops[start : start + BATCH]).to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def _people_in_turn(
    names: NDArray[np.int64], params: ReidTrainingParams, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of crops. Each person appears once before anybody repeats; people with few crops repeat some."""
    crops = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    turns = _in_turn(len(crops), rng)
    count = params.crops_per_person
    while True:
        people = [crops[next(turns)] for _ in range(params.people_per_batch)]
        yield np.concatenate([rng.choice(indices, count, replace=len(indices) < count) for indices in people])


def _in_turn(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield 0..count - 1 in random order, again and again."""
    while True:
        yield from rng.permutation(count).tolist()
