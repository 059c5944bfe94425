"""Train the starter estimator of age and gender (pipeline.models.attributes) on aligned faces.

The recipe: label distributions and the L1 loss of the expectation as in DLDL-v2 (Gao et al. 2018), small pictures
first, the degradations of surveillance video on some of the pictures, mixup, and averaged weights. Networks that were
trained before may be teachers: their mean output for the undamaged picture is a part of the target (Furlanello et al.
2018, "Born-Again Neural Networks").
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Picture
from pipeline.evaluation.attributes import AGE_GROUPS, COPIES_PX, aligned
from pipeline.models.attributes import YEARS, AttributeFile, AttributeNet, Calibration
from pipeline.models.estimator import StarterEstimator
from pipeline.training.attribute_inputs import (
    READ_PX,
    AttributeTrainingParams,
    Inputs,
    LabelledFaces,
    _samples,
    _taught,
    _years,
    batches,
    label_distributions,
    resize,
    steps_per_epoch,
)
from pipeline.training.calibration import Raw, calibrate
from pipeline.training.loop import Run, Schedule, averaged, cosine, decayed, device_of, seed, set_rate

VALIDATED_EVERY = 4
"""Number of epochs between two validations."""
KNOTS = (0.0, 2.0, 6.0, 12.0, 18.0, 23.0, 27.0, 32.0, 40.0, 52.0, 65.0, 80.0)
COPIES_WEIGHT = 0.5
"""Weight of all small copies of a face together. The face itself has weight 1."""


def read_faces(table: pd.DataFrame, read: Callable[[Path], Picture]) -> LabelledFaces:
    """Return the labelled faces of `table` at READ_PX, without unlabelled ones and without ages beyond the network's
    range."""
    known = table[(table["age"] < YEARS) & table["gender"].notna()]
    pictures = np.empty((len(known), READ_PX, READ_PX, 3), np.uint8)
    for path, target in zip(known["path"], pictures, strict=True):
        target[:] = resize(read(Path(path))[None], READ_PX)[0]
    return LabelledFaces(pictures, known["age"].to_numpy(np.float32), (known["gender"] == "F").to_numpy())


def finish(
    network: AttributeNet,
    side_px: int,
    validation: pd.DataFrame,
    read: Callable[[Path], Picture],
    path: Path,
    *,
    mirrored: bool,
    batch: int,
    device: str = "cpu",
) -> Calibration:
    """Calibrate `network` on the faces of `validation` and on small copies of them, and write its file to `path`."""
    AttributeFile(side_px=side_px, mirrored=mirrored, calibration=Calibration.neutral(), width=network.width).write(
        path, network
    )
    # The calibration runs on the written file, because its weights have half the digits.
    estimator = StarterEstimator(path, batch=batch, device=device, half=False)
    known = validation[(validation["age"] < YEARS) & validation["gender"].notna()]
    calibration = calibrate(raw_of(estimator, known, read, batch=batch), KNOTS, AGE_GROUPS)
    AttributeFile(side_px=side_px, mirrored=mirrored, calibration=calibration, width=network.width).write(path, network)
    return calibration


def raw_of(estimator: StarterEstimator, faces: pd.DataFrame, read: Callable[[Path], Picture], *, batch: int) -> Raw:
    """Return the raw outputs of `estimator` for labelled faces (weight 1) and their COPIES_PX (COPIES_WEIGHT
    together)."""
    parts = [
        (*estimator.raw(pictures), rows["age"], rows["gender"] == "F", rows["copy_px"])
        for rows, pictures in aligned(faces, read, batch=batch, copies_px=COPIES_PX)
    ]
    means, spreads, logits, ages, is_female, copy_px = (np.concatenate(values) for values in zip(*parts, strict=True))
    weights = np.where(copy_px == 0, 1.0, COPIES_WEIGHT / len(COPIES_PX))
    means, spreads, logits, ages = (np.asarray(values, np.float64) for values in (means, spreads, logits, ages))
    return Raw(means, spreads, logits, ages, np.asarray(is_female, bool), weights)


def train(
    training: LabelledFaces,
    validation: LabelledFaces,
    params: AttributeTrainingParams,
    run: Run,
    advance: Callable[[int, Mapping[str, float]], None] = lambda done, figures: None,
    device: str = "cpu",
    *,
    start: AttributeNet | None = None,
    workers: int = 0,
    teachers: Sequence[AttributeNet] = (),
    keep: Callable[[AttributeNet], None] = lambda average: None,
) -> AttributeNet:
    """Train until `params.epochs` or `params.minutes` and return the averaged network of the last epoch, on the CPU.

    The training continues from the checkpoint of `run`.

    training: pictures that show UTKFACE's window.
    validation: faces for the history only.
    start: a network of `params.width` whose weights the training begins with, instead of random ones.
    advance: called after each step with the number of steps done and the latest figures.
    workers: number of processes that augment pictures ahead of their use.
    keep: called with the averaged network after each epoch, so that a run that is stopped leaves weights.
    """
    seed(params.seed)
    network = AttributeNet(params.dropout, params.width)
    if start:
        network.load_state_dict(start.state_dict())
    network = network.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    known = [teacher.to(torch.device(device)).eval() for teacher in teachers]
    average = averaged(network, params.ema)
    inner = cast(AttributeNet, average.module)
    optimizer = torch.optim.AdamW(decayed(network, params.weight_decay), lr=params.learning_rate, fused=True)
    progress = run.resume(network=network, average=average, optimizer=optimizer)
    schedule = Schedule(params.epochs, params.minutes, progress.seconds)
    stream = batches(training, params, schedule, progress.epoch, workers=workers, pinned=device == "cuda")
    steps, latest = steps_per_epoch(len(training), params), dict[str, float]()
    while schedule.done(progress.epoch) < 1:
        network.train()
        losses, side = [], params.side_px
        for step, inputs in enumerate(islice(stream, steps)):
            set_rate(optimizer, params.learning_rate, cosine(inputs.done, warm_up=params.warm_up))
            losses.append(_step(network, optimizer, inputs, known, params))
            average.update_parameters(network)
            side = inputs.crops.shape[1]
            advance(progress.epoch * steps + step + 1, latest)
        if not losses:
            break
        progress.epoch += 1
        figures = {"loss": float(np.mean(losses)), "learning_rate": optimizer.param_groups[0]["lr"], "side_px": side}
        if progress.epoch % VALIDATED_EVERY == 0 or schedule.done(progress.epoch) == 1:
            figures |= validate(inner, validation, side)
            latest = {name: figures[name] for name in ("mae", "gender_accuracy")}
        progress.seconds = schedule.seconds
        run.save(progress, figures, network=network, average=average, optimizer=optimizer)
        keep(inner)
    network.load_state_dict(inner.state_dict())
    return network.cpu().eval()


def blended(start: AttributeNet, trained: AttributeNet, share: float) -> AttributeNet:
    """Return the mean of two networks of one width, weight by weight, with `share` of the trained one.

    A network that was trained further often gains where it was trained and loses elsewhere. Between both ends the mean
    can be better than either (WiSE-FT: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
    """
    theirs, network = start.state_dict(), deepcopy(trained)
    mean = {
        name: torch.lerp(theirs[name], weights, share) if weights.is_floating_point() else weights
        for name, weights in trained.state_dict().items()
    }
    network.load_state_dict(mean)
    return network.eval()


def validate(network: nn.Module, faces: LabelledFaces, side_px: int) -> dict[str, float]:
    """Return the mean absolute error, that of faces shrunk to 32 px, and the gender accuracy, computed in bfloat16."""
    figures = {}
    for name, pictures in (("", faces.pictures), ("_32px", resize(faces.pictures, 32))):
        logits, women = predict(network, resize(pictures, side_px))
        years = torch.softmax(logits, 1) @ torch.arange(YEARS, dtype=torch.float32)
        figures[f"mae{name}"] = float(np.abs(years.numpy() - faces.ages).mean())
        figures[f"gender_accuracy{name}"] = float(((women.numpy() > 0) == faces.is_female).mean())
    return figures


@torch.inference_mode()
def predict(network: nn.Module, pictures: NDArray[np.uint8], batch: int = 64) -> tuple[Tensor, Tensor]:
    """Return (N, 101) and (N,) float32 logits for (N, S, S, 3) pictures, computed in bfloat16."""
    network.eval()
    device = device_of(network)
    outputs: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(pictures), batch):
        with torch.autocast(device.type, torch.bfloat16):
            outputs.append(network(_samples(torch.from_numpy(pictures[start : start + batch]).to(device))))
    ages, women = (torch.cat([part.float() for part in parts]).cpu() for parts in zip(*outputs, strict=True))
    return ages, women


def settings_of(params: AttributeTrainingParams) -> dict[str, Any]:
    """Return `params` in JSON types."""
    return {name: _plain(value) for name, value in asdict(params).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Inputs,
    teachers: Sequence[nn.Module],
    params: AttributeTrainingParams,
) -> float:
    device = device_of(network)
    samples = _samples(inputs.crops.to(device, non_blocking=True))
    years = inputs.ages.to(device)
    targets = label_distributions(years, params.sigma)
    women = inputs.is_female.to(device).float() * (1 - params.smoothing) + params.smoothing / 2
    if teachers:
        shares, probs = _taught(teachers, _samples(inputs.whole.to(device, non_blocking=True)))
        targets = torch.lerp(targets, shares, params.teacher_share)
        women = torch.lerp(women, probs, params.teacher_share)
        years = torch.lerp(years, shares @ _years(device), params.teacher_share)
    if (share := inputs.mixed_share) < 1:
        samples, targets, years, women = (share * x + (1 - share) * x.flip(0) for x in (samples, targets, years, women))
    with torch.autocast(device.type, torch.bfloat16):
        age_logits, women_logits = network(samples)
    logs = torch.log_softmax(age_logits.float(), dim=1)
    expected = logs.exp() @ _years(device)
    divergence = nn.functional.kl_div(logs, targets, reduction="batchmean")
    loss = divergence + params.expectation * (expected - years).abs().mean()
    loss = loss + params.gender * nn.functional.binary_cross_entropy_with_logits(women_logits.float(), women)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())
