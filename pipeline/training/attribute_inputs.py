"""The pictures and labels from which the starter estimator learns: views, damage, label distributions and mixtures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Picture
from pipeline.models.attributes import YEARS
from pipeline.training.degrade import Degradation, degrade
from pipeline.training.loop import Schedule, ahead

READ_PX = 160
"""Side at which faces are read: that of UTKFace's pictures."""
STORED = 4 / 3
"""Side of the pictures that augmentation cuts from, relative to the network's side. It is READ_PX at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Probabilities and ranges of the augmentation. Pairs are the ends of a range.

    degraded: probability of a degradation.
    scale: factor by which a face is enlarged.
    aspect, shift: shares of the side.
    degrees: largest rotation.
    brightness, contrast, tint: largest relative change.
    grey, erased: probabilities.
    erased_share: erased share of the area.
    """

    degraded: float = 0.4
    scale: tuple[float, float] = (0.9, 1.25)
    aspect: float = 0.08
    degrees: float = 12.0
    shift: float = 0.06
    brightness: float = 0.25
    contrast: float = 0.3
    tint: float = 0.08
    grey: float = 0.15
    erased: float = 0.3
    erased_share: tuple[float, float] = (0.03, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeTrainingParams:
    """Everything that a training depends on, besides its pictures.

    epochs: most epochs.
    minutes: most minutes, or None.
    passes: passes over all pictures in an epoch. Every epoch ends with a checkpoint, which costs a second.
    width: of the network.
    teacher_share: share of the teachers, if there are any, in the targets.
    small_px, small_share: side of the pictures in the first `small_share` of the training. side_px follows.
    sigma: the label distribution is Gaussian with the standard deviation sigma[0] + sigma[1] * age, in years.
    expectation, gender: weights of these losses. The divergence has weight 1.
    mixed: probability that a batch is mixed.
    mixup: parameter of the Beta distribution of the mixing share.
    plain_share: share of the last steps without mixing.
    """

    seed: int = 0
    epochs: int = 48
    minutes: float | None = None
    passes: int = 1
    batch: int = 64
    width: float = 1.0
    teacher_share: float = 0.5
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.04
    ema: float = 0.999
    side_px: int = 96
    small_px: int = 64
    small_share: float = 0.4
    dropout: float = 0.3
    sigma: tuple[float, float] = (1.0, 0.04)
    expectation: float = 0.2
    gender: float = 1.5
    smoothing: float = 0.05
    mixed: float = 0.5
    mixup: float = 0.3
    plain_share: float = 0.15
    augmentation: Augmentation = field(default_factory=Augmentation)
    degradation: Degradation = field(default_factory=Degradation)


@dataclass(frozen=True, slots=True)
class LabelledFaces:
    """N labelled faces.

    pictures: (N, P, P, 3) uint8 RGB.
    ages: (N,) float32 years.
    is_female: (N,) bool.
    """

    pictures: NDArray[np.uint8]
    ages: NDArray[np.float32]
    is_female: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ages)

    def resized(self, side_px: int) -> "LabelledFaces":
        return LabelledFaces(resize(self.pictures, side_px), self.ages, self.is_female)


def resize(pictures: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize (N, P, P, 3) to (N, side_px, side_px, 3) by averaging when shrinking and interpolating when enlarging."""
    if pictures.shape[1] == side_px:
        return pictures
    how = cv2.INTER_AREA if pictures.shape[1] > side_px else cv2.INTER_LINEAR
    resized = np.empty((len(pictures), side_px, side_px, 3), np.uint8)
    for picture, target in zip(pictures, resized, strict=True):
        cv2.resize(picture, (side_px, side_px), dst=target, interpolation=how)
    return resized


class Task(NamedTuple):
    """A training step to come.

    epoch, step: position of the step, from 0. They seed its random numbers.
    chosen: (B,) indices of its pictures.
    done: share of the training that is done, 0..1.
    """

    epoch: int
    step: int
    chosen: NDArray[np.int64]
    done: float


class Inputs(NamedTuple):
    """The inputs of one training step, of B faces.

    crops: (B, S, S, 3) uint8 RGB, augmented.
    whole: (B, S, S, 3) uint8 RGB. The same crops before degradation and erasing.
    ages: (B,) float32 years.
    is_female: (B,) bool.
    mixed_share: share of its own that each picture keeps in mixup.
    done: share of the training that is done, 0..1.
    """

    crops: Tensor
    whole: Tensor
    ages: Tensor
    is_female: Tensor
    mixed_share: float
    done: float


def steps_per_epoch(num_pictures: int, params: AttributeTrainingParams) -> int:
    """Return the number of full batches in an epoch."""
    return params.passes * num_pictures // params.batch


def sides(params: AttributeTrainingParams) -> set[int]:
    """Return the sides of the pictures of a training, in px."""
    return {params.side_px} | ({params.small_px} if params.small_share else set())


def side_of(done: float, params: AttributeTrainingParams) -> int:
    """Return the side of the pictures, in px, when the share `done` of the training is done."""
    return params.small_px if done < params.small_share else params.side_px


def batches(
    training: LabelledFaces,
    params: AttributeTrainingParams,
    schedule: Schedule,
    first_epoch: int,
    *,
    workers: int = 0,
    pinned: bool = False,
) -> Iterator[Inputs]:
    """Yield the inputs of all steps from `first_epoch` to the end of the training, every epoch in random order."""
    stored = {side: training.resized(min(READ_PX, round(STORED * side))).pictures for side in sides(params)}
    steps = steps_per_epoch(len(training), params)

    def tasks() -> Iterator[Task]:
        for epoch in range(first_epoch, params.epochs):
            rng = np.random.default_rng([params.seed, epoch])
            order = np.concatenate([rng.permutation(len(training)) for _ in range(params.passes)])
            for step in range(steps):
                done = schedule.done(epoch + step / steps)
                if done == 1:
                    return
                yield Task(epoch, step, order[step * params.batch : (step + 1) * params.batch], done)

    def make(task: Task) -> Inputs:
        rng = np.random.default_rng([params.seed, task.epoch, task.step])
        share = mixing(params, rng) if task.done < 1 - params.plain_share else 1.0
        side = side_of(task.done, params)
        views = [view(stored[side][index], side, params.augmentation, rng) for index in task.chosen]
        crops = [damage(crop, params, rng) for crop in views]
        arrays = (np.stack(crops), np.stack(views), training.ages[task.chosen], training.is_female[task.chosen])
        return Inputs(*(torch.from_numpy(array) for array in arrays), mixed_share=share, done=task.done)

    return ahead(make, tasks(), workers=workers, pinned=pinned)


def view(picture: Picture, side_px: int, settings: Augmentation, rng: np.random.Generator) -> Picture:
    """Return a (side_px, side_px, 3) crop of `picture`: rotated, shifted, mirrored and tinted."""
    crop = cv2.warpAffine(
        picture,
        _jitter(picture.shape[0], side_px, settings, rng),
        (side_px, side_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _colour(np.asarray(crop, np.uint8), settings, rng)


def damage(crop: Picture, params: AttributeTrainingParams, rng: np.random.Generator) -> Picture:
    """Return the (S, S, 3) crop, sometimes degraded or partly erased."""
    settings, side_px = params.augmentation, crop.shape[0]
    if rng.random() < settings.degraded:
        crop = degrade(crop, params.degradation, rng)
    if rng.random() < settings.erased:
        area = rng.uniform(*settings.erased_share) * side_px**2
        stretch = np.exp(rng.uniform(-1, 1) * np.log(2.5))
        height, width = (
            min(side_px - 1, max(1, round(float(np.sqrt(area * part))))) for part in (stretch, 1 / stretch)
        )
        top, left = rng.integers(side_px - height), rng.integers(side_px - width)
        crop = crop.copy()
        crop[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return crop


def label_distributions(ages: Tensor, sigma: tuple[float, float]) -> Tensor:
    """Return (B, 101) Gaussians with the standard deviation sigma[0] + sigma[1] * age for (B,) years. Each sums to
    1."""
    years = torch.arange(YEARS, dtype=torch.float32, device=ages.device)
    spreads = sigma[0] + sigma[1] * ages
    return torch.softmax(-0.5 * ((years - ages[:, None]) / spreads[:, None]) ** 2, dim=1)


def mixing(params: AttributeTrainingParams, rng: np.random.Generator) -> float:
    """Return the share of its own that each picture keeps in mixup (Zhang et al. 2018). 1 means that nothing is
    mixed."""
    if rng.random() >= params.mixed:
        return 1.0
    share = rng.beta(params.mixup, params.mixup)
    return float(max(share, 1 - share))


def _years(device: torch.device) -> Tensor:
    return torch.arange(YEARS, dtype=torch.float32, device=device)


@torch.no_grad()
def _taught(teachers: Sequence[nn.Module], samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (B, 101) age distributions and (B,) probabilities of a woman by `teachers`."""
    with torch.autocast(samples.device.type, torch.bfloat16):
        outputs = [teacher(samples) for teacher in teachers]
    shares = torch.stack([torch.softmax(ages.float(), 1) for ages, _ in outputs]).mean(0)
    return shares, torch.stack([women.float().sigmoid() for _, women in outputs]).mean(0)


def _samples(crops: Tensor) -> Tensor:
    """Convert (B, S, S, 3) uint8 to (B, 3, S, S) float32, channels last in memory."""
    return crops.permute(0, 3, 1, 2).float()


def _jitter(stored_px: int, side_px: int, settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the (2, 3) matrix from the stored picture to the crop."""
    low, high = settings.scale
    scale = low * (high / low) ** rng.random() * side_px / stored_px
    stretch = np.exp(rng.uniform(-1, 1) * settings.aspect)
    angle = np.deg2rad(rng.uniform(-1, 1) * settings.degrees)
    mirror = -1 if rng.random() < 0.5 else 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([scale * stretch * mirror, scale / stretch])
    middle = (side_px - 1) / 2 + rng.uniform(-1, 1, 2) * settings.shift * side_px
    return np.column_stack([linear, middle - linear @ np.full(2, (stored_px - 1) / 2)])


def _colour(crop: Picture, settings: Augmentation, rng: np.random.Generator) -> Picture:
    gain = 1 + rng.uniform(-1, 1) * settings.contrast
    offset = rng.uniform(-1, 1) * settings.brightness * 255
    tints = 1 + rng.uniform(-1, 1, 3) * settings.tint
    values = np.arange(256, dtype=np.float32)[:, None]
    table = ((values - 127.5) * gain * tints + 127.5 + offset * 0.5).clip(0, 255).astype(np.uint8)
    crop = cv2.LUT(crop, table[None])  # type: ignore[assignment]
    if rng.random() < settings.grey:
        crop = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)  # type: ignore[assignment]
    return np.asarray(crop, np.uint8)
