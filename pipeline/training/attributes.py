"""Training of the starter estimator of age and gender (pipeline.models.attributes) on aligned faces.

Label distributions and the expectation's L1 as in DLDL-v2 (Gao et al. 2018), small pictures first, degradations of
surveillance video on a share of the pictures, mixup, averaged weights.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Picture
from pipeline.evaluation.attributes import AGE_GROUPS, COPIES_PX, aligned
from pipeline.models.attributes import YEARS, AttributeFile, AttributeNet, Calibration
from pipeline.models.estimator import AttributeEstimator
from pipeline.training.calibration import Raw, calibrate
from pipeline.training.degrade import Degradation, degrade
from pipeline.training.loop import Progress, Run, averaged, cosine, decayed, seed, set_rate

STORED = 4 / 3
"""Side of the pictures that augmentation cuts from, over the network's."""
READ_PX = 128
VALIDATED_EVERY = 4
"""Epochs."""
KNOTS = (0.0, 2.0, 6.0, 12.0, 18.0, 23.0, 27.0, 32.0, 40.0, 52.0, 65.0, 80.0)
COPIES_WEIGHT = 0.5
"""Of a face's small copies, together, beside 1 of the face as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Chances and ranges; pairs are ends. scale: how much larger a face is drawn; aspect, shift: shares of the side."""

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
    """What a training is a function of, beside its pictures.

    small_px for the first `small_share` of the epochs, then side_px. The label distribution is Gaussian, its standard
    deviation sigma[0] + sigma[1] * age years. expectation, gender: weights of the losses beside the divergence's 1.
    mixed: how often a batch is mixed, by Beta(mixup, mixup); never in the last `plain_share` of the epochs.
    """

    seed: int = 0
    epochs: int = 48
    batch: int = 64
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
    """N faces: pictures (N, P, P, 3) uint8 RGB; ages (N,) float32 years; is_female (N,) bool."""

    pictures: NDArray[np.uint8]
    ages: NDArray[np.float32]
    is_female: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ages)

    def resized(self, side_px: int) -> "LabelledFaces":
        return LabelledFaces(resize(self.pictures, side_px), self.ages, self.is_female)


def read_faces(table: pd.DataFrame, read: Callable[[Path], Picture]) -> LabelledFaces:
    """The labelled faces of `table`, at READ_PX; those without a label, or older than the network's last year, go."""
    known = table[(table["age"] < YEARS) & table["gender"].notna()]
    pictures = np.empty((len(known), READ_PX, READ_PX, 3), np.uint8)
    for path, target in zip(known["path"], pictures, strict=True):
        target[:] = resize(read(Path(path))[None], READ_PX)[0]
    return LabelledFaces(pictures, known["age"].to_numpy(np.float32), (known["gender"] == "F").to_numpy())


def finish(
    network: AttributeNet,
    params: AttributeTrainingParams,
    validation: pd.DataFrame,
    read: Callable[[Path], Picture],
    path: Path,
    *,
    mirrored: bool,
    batch: int,
) -> Calibration:
    """Calibrate `network` on the faces of `validation`, as they are and made small, and write its file to `path`."""
    AttributeFile(side_px=params.side_px, mirrored=mirrored, calibration=Calibration.neutral()).write(path, network)
    # What is calibrated is what the file says: its weights have half the digits.
    estimator = AttributeEstimator(path, batch=batch, device="cpu", half=False)
    known = validation[(validation["age"] < YEARS) & validation["gender"].notna()]
    calibration = calibrate(raw_of(estimator, known, read, batch=batch), KNOTS, AGE_GROUPS)
    AttributeFile(side_px=params.side_px, mirrored=mirrored, calibration=calibration).write(path, network)
    return calibration


def raw_of(estimator: AttributeEstimator, faces: pd.DataFrame, read: Callable[[Path], Picture], *, batch: int) -> Raw:
    """What `estimator` says of labelled faces as they are, weight 1, and of their COPIES_PX, COPIES_WEIGHT in all."""
    parts = [
        (*estimator.raw(pictures), rows["age"], rows["gender"] == "F", rows["copy_px"])
        for rows, pictures in aligned(faces, read, batch=batch, copies_px=COPIES_PX)
    ]
    means, spreads, logits, ages, is_female, copy_px = (np.concatenate(each) for each in zip(*parts, strict=True))
    weights = np.where(copy_px == 0, 1.0, COPIES_WEIGHT / len(COPIES_PX))
    means, spreads, logits, ages = (np.asarray(each, np.float64) for each in (means, spreads, logits, ages))
    return Raw(means, spreads, logits, ages, np.asarray(is_female, bool), weights)


def resize(pictures: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """(N, P, P, 3) -> (N, side_px, side_px, 3); averages where pixels are lost, interpolates where they are made."""
    if pictures.shape[1] == side_px:
        return pictures
    how = cv2.INTER_AREA if pictures.shape[1] > side_px else cv2.INTER_LINEAR
    resized = np.empty((len(pictures), side_px, side_px, 3), np.uint8)
    for picture, target in zip(pictures, resized, strict=True):
        cv2.resize(picture, (side_px, side_px), dst=target, interpolation=how)
    return resized


def train(
    training: LabelledFaces,
    validation: LabelledFaces,
    params: AttributeTrainingParams,
    run: Run,
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, figures: None,
    device: str = "cpu",
) -> AttributeNet:
    """Train until `params.epochs`, going on where `run` stands; returns the averaged network of the last epoch, on the
    CPU.

    The pictures show UTKFACE's window and are of at least 4/3 of the params's side. `validation` is for the history
    alone. `advance` is told after each step how many are done and the last figures.
    """
    seed(params.seed)
    network = AttributeNet(params.dropout).to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = averaged(network, params.ema)
    optimizer = torch.optim.AdamW(decayed(network, params.weight_decay), lr=params.learning_rate, fused=True)
    progress = run.resume(network=network, average=average, optimizer=optimizer)
    stored, told = training, dict[str, float]()
    clock = _Clock(progress)
    while progress.epoch < params.epochs:
        side = side_of(progress.epoch, params)
        if stored.pictures.shape[1] != round(STORED * side):
            stored = training.resized(round(STORED * side))
        rng = np.random.default_rng([params.seed, progress.epoch])
        network.train()
        losses = []
        steps = len(training) // params.batch
        for step, (crops, ages, is_female) in enumerate(batches(stored, side, params, rng)):
            done = (progress.epoch + step / steps) / params.epochs
            set_rate(optimizer, params.learning_rate, cosine(done, warm_up=params.warm_up))
            shares = mixing(params, rng) if done < 1 - params.plain_share else 1.0
            losses.append(_step(network, optimizer, crops, ages, is_female, shares, params))
            average.update_parameters(network)
            advance(progress.epoch * steps + step + 1, told)
        figures = {"loss": float(np.mean(losses)), "learning_rate": optimizer.param_groups[0]["lr"], "side_px": side}
        progress = clock.tick(progress)
        if progress.epoch % VALIDATED_EVERY == 0 or progress.epoch == params.epochs:
            figures |= validate(average.module, validation, side)
            told = {name: figures[name] for name in ("mae", "gender_accuracy")}
        run.save(progress, figures, network=network, average=average, optimizer=optimizer)
    network.load_state_dict(average.module.state_dict())
    return network.cpu().eval()


def side_of(epoch: int, params: AttributeTrainingParams) -> int:
    """The side of the pictures in `epoch`, px."""
    return params.small_px if epoch < round(params.small_share * params.epochs) else params.side_px


def batches(
    stored: LabelledFaces, side_px: int, params: AttributeTrainingParams, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]]:
    """One epoch's whole batches, in an order of its own: (B, side, side, 3) crops, (B,) ages, (B,) is_female."""
    order = rng.permutation(len(stored))
    for start in range(0, len(order) - params.batch + 1, params.batch):
        chosen = order[start : start + params.batch]
        crops = np.stack([augment(stored.pictures[index], side_px, params, rng) for index in chosen])
        yield crops, stored.ages[chosen], stored.is_female[chosen]


def augment(picture: Picture, side_px: int, params: AttributeTrainingParams, rng: np.random.Generator) -> Picture:
    """A (side_px, side_px, 3) cut of `picture`: turned, shifted, mirrored, tinted, perhaps degraded, perhaps erased."""
    settings = params.augmentation
    crop = cv2.warpAffine(
        picture,
        _jitter(picture.shape[0], side_px, settings, rng),
        (side_px, side_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    crop = _colour(np.asarray(crop, np.uint8), settings, rng)
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
    """(B,) years -> (B, 101) Gaussians of standard deviation sigma[0] + sigma[1] * age, each summing to 1."""
    years = torch.arange(YEARS, dtype=torch.float32, device=ages.device)
    spreads = sigma[0] + sigma[1] * ages
    return torch.softmax(-0.5 * ((years - ages[:, None]) / spreads[:, None]) ** 2, dim=1)


def mixing(params: AttributeTrainingParams, rng: np.random.Generator) -> float:
    """The share of its own that each picture of a batch keeps in mixup (Zhang et al. 2018); 1: not mixed."""
    if rng.random() >= params.mixed:
        return 1.0
    share = rng.beta(params.mixup, params.mixup)
    return float(max(share, 1 - share))


def validate(network: nn.Module, faces: LabelledFaces, side_px: int) -> dict[str, float]:
    """Mean absolute error, the same of faces of 32 px, and the share of right genders, by bfloat16."""
    figures = {}
    for name, pictures in (("", faces.pictures), ("_32px", resize(faces.pictures, 32))):
        logits, women = predict(network, resize(pictures, side_px))
        years = torch.softmax(logits, 1) @ torch.arange(YEARS, dtype=torch.float32)
        figures[f"mae{name}"] = float(np.abs(years.numpy() - faces.ages).mean())
        figures[f"gender_accuracy{name}"] = float(((women.numpy() > 0) == faces.is_female).mean())
    return figures


@torch.inference_mode()
def predict(network: nn.Module, pictures: NDArray[np.uint8], batch: int = 64) -> tuple[Tensor, Tensor]:
    """(N, S, S, 3) -> (N, 101) and (N,) logits, float32, computed in bfloat16."""
    network.eval()
    device = _device(network)
    outputs: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(pictures), batch):
        with torch.autocast(device.type, torch.bfloat16):
            outputs.append(network(_samples(pictures[start : start + batch]).to(device)))
    ages, women = (torch.cat([part.float() for part in each]).cpu() for each in zip(*outputs, strict=True))
    return ages, women


def settings_of(params: AttributeTrainingParams) -> dict[str, Any]:
    """`params` in JSON types."""
    return {name: _plain(value) for name, value in asdict(params).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    crops: NDArray[np.uint8],
    ages: NDArray[np.float32],
    is_female: NDArray[np.bool_],
    share: float,
    params: AttributeTrainingParams,
) -> float:
    device = _device(network)
    samples = _samples(crops).to(device)
    years = torch.from_numpy(ages).to(device)
    targets = label_distributions(years, params.sigma)
    women = torch.from_numpy(is_female).to(device).float() * (1 - params.smoothing) + params.smoothing / 2
    if share < 1:
        samples, targets, years, women = (share * x + (1 - share) * x.flip(0) for x in (samples, targets, years, women))
    with torch.autocast(device.type, torch.bfloat16):
        age_logits, women_logits = network(samples)
    logs = torch.log_softmax(age_logits.float(), dim=1)
    expected = logs.exp() @ torch.arange(YEARS, dtype=torch.float32, device=device)
    divergence = nn.functional.kl_div(logs, targets, reduction="batchmean")
    loss = divergence + params.expectation * (expected - years).abs().mean()
    loss = loss + params.gender * nn.functional.binary_cross_entropy_with_logits(women_logits.float(), women)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _samples(crops: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels last in memory."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float()


def _jitter(stored_px: int, side_px: int, settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """The (2, 3) matrix from the stored picture to the crop."""
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


class _Clock:
    """Counts the seconds of finished epochs."""

    def __init__(self, progress: Progress) -> None:
        self._started = time.monotonic() - progress.seconds

    def tick(self, progress: Progress) -> Progress:
        return Progress(progress.epoch + 1, time.monotonic() - self._started)
