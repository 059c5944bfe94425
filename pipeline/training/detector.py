"""Train a small detector of people or faces from random weights, optionally with a teacher.

The network has the shape of YOLOv8n, with one class. There are three losses:

- the labels' loss (task-aligned assignment, IoU, distribution focal loss; Ultralytics). The target of the background is
  the teacher's score instead of 0, so an unlabelled person is not unlearned.
- the divergence from the teacher's box distributions where it finds a person (Zheng et al., "Localization
  Distillation", 2022)
- 1 minus the correlation with the teacher's features after each block, which have the same widths (Romero et al.,
  "FitNets", 2015; Cao et al., "PKD", 2022). The first steps learn only these.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.models.networks import fill, read_checkpoint
from pipeline.models.person_detector import GREY, PersonDetector, new_model, write_network
from pipeline.training import loop

ARCHITECTURE = "yolov8n.yaml"
BLOCKS = (2, 4, 6, 8, 9, 12, 15, 18, 21)
"""The layers of YOLOv8 whose outputs follow the teacher's: C2f and SPPF of the backbone, C2f of the neck."""
REG_MAX = 16
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
"""The gains of Ultralytics' configuration."""
PSEUDO_SCORE = 0.5
"""On unlabelled pictures, a teacher's detection with at least this score becomes a label."""
EVALUATE_EVERY = 4
MAX_ZOOM = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingParams:
    """Everything that a training depends on, besides its pictures.

    epochs: most epochs.
    minutes: most minutes, or None.
    passes: passes over all pictures in an epoch. Every epoch ends with a checkpoint, which costs a second.
    sizes: px. Sides of the square inputs; one is drawn per batch.
    quick_start: share of the steps that learn only features.
    mosaic: share of inputs that are made of four pictures.
    calm: share of the last steps with few mosaics.
    close: probability of zooming in on a person, most of whom is then cut off.
    feature_gain: gain of the feature loss. It falls to a tenth.
    background: target of the background on labelled pictures, as a share of the teacher's score.
    """

    epochs: int
    minutes: float | None = None
    passes: int = 1
    batch: int = 16
    sizes: tuple[int, ...] = (256, 320, 384)
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    warm_up: float = 0.02
    ema_decay: float = 0.998
    quick_start: float = 0.12
    mosaic: float = 0.6
    close: float = 0.25
    calm: float = 0.15
    feature_gain: float = 8.0
    distribution_gain: float = 0.5
    background: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A picture to train on.

    picture: (H, W, 3) uint8 RGB.
    boxes: (N, 4) float32 xyxy px.
    labelled: True if people labelled it, False if the teacher did.
    """

    picture: Picture
    boxes: NDArray[np.float32]
    labelled: bool


class Task(NamedTuple):
    """A training step to come.

    epoch, step: position of the step, from 0. They seed its random numbers.
    chosen: indices of its examples.
    done: share of the training that is done, 0..1.
    """

    epoch: int
    step: int
    chosen: list[int]
    done: float


class Inputs(NamedTuple):
    """The inputs of one training step, of B pictures with N boxes.

    pictures: (B, size, size, 3) uint8 RGB.
    boxes: (N, 4) float32 xyxy px.
    owners: (N,) int64. Index of each box's picture.
    labelled: (B,) bool. True for pictures that people labelled.
    done: share of the training that is done, 0..1.
    """

    pictures: torch.Tensor
    boxes: torch.Tensor
    owners: torch.Tensor
    labelled: torch.Tensor
    done: float


# --- pictures ---------------------------------------------------------------------------------------------------------


def compose(
    examples: Sequence[Example], first: int, size: int, *, mosaic: bool, close: float, rng: np.random.Generator
) -> tuple[Picture, NDArray[np.float32], bool]:
    """Return one augmented (size, size, 3) input, its (N, 4) boxes in px, and whether people labelled it.

    The input shows `examples[first]`, alone or in a mosaic with three others of its kind.
    """
    canvas = np.full((size, size, 3), GREY, np.uint8)
    labelled = examples[first].labelled
    if not mosaic:
        boxes = _view(examples[first], canvas, close, rng)
    else:
        x, y = (int(size * share) for share in rng.uniform(0.3, 0.7, 2))
        kind = [index for index, example in enumerate(examples) if example.labelled == labelled]
        chosen = [first, *rng.choice(kind, 3).tolist()]
        windows = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
        parts = []
        for place, index in zip(rng.permutation(4), chosen, strict=True):
            left, top, right, bottom = windows[place]
            part = _view(examples[index], canvas[top:bottom, left:right], close, rng)
            parts.append(part + np.array([left, top] * 2, np.float32))
        boxes = np.vstack(parts)
    return _photometric(canvas, rng), boxes, labelled


def _view(example: Example, window: Picture, close: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw `example` scaled, shifted and sometimes mirrored into `window`, and return the visible boxes.

    With the probability `close` somebody's upper body fills the window, if that enlarges the picture by at most
    MAX_ZOOM.
    """
    height, width = example.picture.shape[:2]
    out_height, out_width = window.shape[:2]
    scale = np.sqrt(out_width * out_height / (width * height)) * np.exp(rng.uniform(np.log(0.5), np.log(1.8)))
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    if width == height and rng.random() < 0.5:  # the picture may have been squashed to a square
        stretch *= rng.uniform(1.0, 16 / 9) ** 0.5
    x_scale, y_scale = scale * stretch, scale / stretch
    x, y = (
        rng.uniform(min(0, room), max(0, room)) for room in (out_width - width * x_scale, out_height - height * y_scale)
    )
    if len(example.boxes) and rng.random() < close:
        left, top, right, bottom = rng.choice(example.boxes)
        zoom = rng.uniform(0.9, 2.5) * out_height / max(bottom - top, 1)
        if zoom <= MAX_ZOOM:
            scale, x_scale, y_scale = zoom, zoom * stretch**2, zoom
            x = out_width * rng.uniform(0.2, 0.8) - (left + right) / 2 * x_scale
            y = out_height * rng.uniform(0, 0.3) - top * y_scale
    mirrored = rng.random() < 0.5
    matrix = np.array([[x_scale, 0, x], [0, y_scale, y]])
    boxes = example.boxes * np.array([x_scale, y_scale] * 2) + np.array([x, y] * 2)
    if mirrored:
        matrix[0] = [-x_scale, 0, out_width - 1 - x]
        boxes[:, [0, 2]] = out_width - boxes[:, [2, 0]]
    method = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
    if scale < 0.6:  # warpAffine does not average, so shrink first
        small = cv2.resize(example.picture, None, fx=x_scale, fy=y_scale, interpolation=method)
        matrix[:, :2] = matrix[:, :2] @ np.diag([width / small.shape[1], height / small.shape[0]])
    else:
        small = example.picture
    border = (GREY, GREY, GREY)
    window[:] = cv2.warpAffine(small, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR, borderValue=border)
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    boxes = np.clip(boxes, 0, [out_width, out_height] * 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    shown = np.prod(sides, axis=1)
    return boxes[
        (sides.min(1, initial=np.inf) >= 4) & (shown >= np.minimum(0.2 * whole, 0.15 * out_width * out_height))
    ].astype(np.float32)


def _photometric(picture: Picture, rng: np.random.Generator) -> Picture:
    """Change the colours, and sometimes add blur, noise, darkness and JPEG, as in surveillance video."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * (5, 0.6, 0.4)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    levels = np.arange(256)
    gamma = rng.uniform(1.2, 2.2) if rng.random() < 0.1 else 1.0  # dusk
    tables = (
        ((levels + hue) % 180).astype(np.uint8),
        np.clip(levels * (1 + saturation), 0, 255).astype(np.uint8),
        np.clip(255 * (levels / 255) ** gamma * (1 + value), 0, 255).astype(np.uint8),
    )
    hsv = cv2.merge([cv2.LUT(channel, table) for channel, table in zip(cv2.split(hsv), tables, strict=True)])
    out = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.05:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.12:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.1:
        grain = rng.normal(0, rng.uniform(3, 12), out.shape).astype(np.float32)
        out = np.clip(out + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        quality = int(rng.integers(25, 75))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return np.asarray(out, np.uint8)


# --- networks and losses ----------------------------------------------------------------------------------------------


def new_network(seed: int, target: str = "person") -> Any:
    """Return an untrained DetectionModel (Ultralytics) of ARCHITECTURE with one class, `target`."""
    torch.manual_seed(seed)
    network = new_model(ARCHITECTURE, 1)
    network.names = {0: target}
    network.args = SimpleNamespace(**GAINS)
    return network.to(memory_format=torch.channels_last)


def _widths(network: Any) -> list[tuple[str, int]]:
    """Return type and channels of each of BLOCKS, as far as another network has such blocks."""
    blocks: list[Any] = [block for index, block in enumerate(network.model) if index in BLOCKS]
    return [(type(block).__name__, block.cv2.conv.out_channels) for block in blocks if hasattr(block, "cv2")]


class Features:
    """The outputs of BLOCKS at a network's last forward pass."""

    def __init__(self, network: Any) -> None:
        self.last: dict[int, torch.Tensor] = {}
        for index in BLOCKS:
            network.model[index].register_forward_hook(self._keep(index))

    def _keep(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self.last[index] = output

        return hook


def feature_loss(student: dict[int, torch.Tensor], teacher: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return 1 minus the correlation of the student's channels with the teacher's, averaged over channels and
    blocks."""
    losses = []
    for index, target in teacher.items():
        mine, its = student[index].float(), target.float()
        mine = mine - mine.mean((0, 2, 3), keepdim=True)
        its = its - its.mean((0, 2, 3), keepdim=True)
        norm = (mine.square().mean((0, 2, 3)) * its.square().mean((0, 2, 3)) + 1e-8).sqrt()
        losses.append((1 - (mine * its).mean((0, 2, 3)) / norm).mean())
    return torch.stack(losses).mean()


class SoftBackground(nn.Module):
    """Binary cross-entropy whose background target is `soft`, (B, anchors, 1), set before each call."""

    soft: torch.Tensor

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        target = torch.where(target > 0, target, self.soft)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def distribution_loss(student: torch.Tensor, teacher: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Return the divergence of box distributions (B, 4 * REG_MAX, anchors), weighted by the teacher's `score` (B,
    anchors)."""
    some = score > 0.05
    weight = score[some]
    if not len(weight):
        return student.sum() * 0
    mine, its = (
        logits.permute(0, 2, 1)[some].float().view(-1, 4, REG_MAX).log_softmax(-1) for logits in (student, teacher)
    )
    divergence = functional.kl_div(mine, its, reduction="none", log_target=True).sum(-1).mean(-1)
    return (divergence * weight).sum() / weight.sum()


# --- training ---------------------------------------------------------------------------------------------------------


class Trainer:
    """One training over `examples`, with or without a teacher.

    teacher: the trainer takes it over and converts its network to bfloat16.
    start: a file of `write_network` with the initial weights.
    target: name of the class.
    device: where the network is trained. The teacher must be there, too.
    workers: number of processes that compose inputs ahead of their use.

    Raises UserError if the teacher's blocks differ from the student's, or `start` does not fit.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        params: DetectorTrainingParams,
        teacher: PersonDetector | None = None,
        start: Path | None = None,
        target: str = "person",
        device: str = "cpu",
        workers: int = 0,
    ) -> None:
        self.examples, self.params = examples, params
        self.schedule = loop.Schedule(params.epochs, params.minutes)
        self._workers = workers
        self._stream: Iterator[Inputs] = iter(())
        self._next_epoch = -1
        self.network = new_network(params.seed, target)
        if start is not None:
            known = fill(new_network(params.seed), read_checkpoint(start), start)
            self.network.load_state_dict(known.state_dict())
        self._device = torch.device(device)
        self.network.to(self._device)
        self.average = loop.averaged(self.network, params.ema_decay)
        self.optimizer = torch.optim.AdamW(
            loop.decayed(self.network, params.weight_decay), lr=params.learning_rate, fused=True
        )
        self._features = Features(self.network)
        self._teacher: Any = None
        if teacher is not None:
            self._target = teacher.target
            if _widths(teacher.network) != _widths(self.network):
                raise UserError(
                    f"the teacher must be a {ARCHITECTURE} in shape, as features are compared; name another"
                )
            self._teacher = teacher.network.to(torch.bfloat16)
            self._teacher.model[-1].training = True  # the head returns raw outputs
            self._teachers_features = Features(self._teacher)
        from ultralytics.utils.loss import v8DetectionLoss

        self._criterion = v8DetectionLoss(self.network)
        self._criterion.bce = SoftBackground()  # type: ignore[assignment]
        self.steps_per_epoch = params.passes * len(examples) // params.batch

    def parts(self) -> dict[str, Any]:
        """Return the parts of a checkpoint."""
        return {"network": self.network, "average": self.average, "optimizer": self.optimizer}

    def epoch(self, index: int) -> Iterator[dict[str, float]]:
        """Train epoch `index`, from 0, and yield the losses of each step. It ends early when the time is up."""
        if index != self._next_epoch:
            self._stream = self.inputs(index)
        self._next_epoch = index + 1
        self.network.train()
        for inputs in islice(self._stream, self.steps_per_epoch):
            yield self._step(inputs)

    def inputs(self, first_epoch: int) -> Iterator[Inputs]:
        """Return the inputs of all steps from `first_epoch` to the end of the training."""
        pinned = self._device.type == "cuda"
        return loop.ahead(self._composed, self._tasks(first_epoch), workers=self._workers, pinned=pinned)

    def _tasks(self, first_epoch: int) -> Iterator[Task]:
        """Yield the steps from `first_epoch` to the end of the training."""
        batch = self.params.batch
        for epoch in range(first_epoch, self.params.epochs):
            rng = np.random.default_rng([self.params.seed, epoch])
            order = np.concatenate([rng.permutation(len(self.examples)) for _ in range(self.params.passes)])
            for step in range(self.steps_per_epoch):
                done = self.schedule.done(epoch + step / self.steps_per_epoch)
                if done == 1:
                    return
                yield Task(epoch, step, order[step * batch : (step + 1) * batch].tolist(), done)

    def _composed(self, task: Task) -> Inputs:
        """Return the augmented inputs of a step."""
        params = self.params
        rng = np.random.default_rng([params.seed, task.epoch, task.step])
        size = int(rng.choice(params.sizes))
        mosaic = params.mosaic if task.done < 1 - params.calm else 0.1
        pictures, boxes, labelled = zip(
            *(
                compose(self.examples, index, size, mosaic=rng.random() < mosaic, close=params.close, rng=rng)
                for index in task.chosen
            ),
            strict=True,
        )
        owners = np.repeat(np.arange(len(boxes)), [len(boxes_of_one) for boxes_of_one in boxes])
        arrays = (np.stack(pictures), np.vstack(boxes), owners, np.array(labelled))
        return Inputs(*(torch.from_numpy(array) for array in arrays), done=task.done)

    def _step(self, inputs: Inputs) -> dict[str, float]:
        params = self.params
        pictures = inputs.pictures.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        loop.set_rate(self.optimizer, params.learning_rate, loop.cosine(inputs.done, warm_up=params.warm_up))
        with torch.autocast(self._device.type, torch.bfloat16):
            outputs = self.network(pictures.float() / 255)
        outputs = {key: outputs[key].float() for key in ("boxes", "scores")} | {"feats": outputs["feats"]}
        loss, figures = self._loss(outputs, pictures, inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        values = torch.stack([value.detach() for value in figures.values()]).tolist()  # one wait for the GPU
        return dict(zip(figures, values, strict=True))

    def _loss(
        self, outputs: dict[str, Any], pictures: torch.Tensor, inputs: Inputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        params, done = self.params, inputs.done
        loss, figures = torch.zeros((), device=self._device), {}
        soft = torch.zeros_like(outputs["scores"]).permute(0, 2, 1)
        if self._teacher is not None:
            with torch.inference_mode():
                theirs = self._teacher(pictures.to(torch.bfloat16) / 255)
            score = theirs["scores"][:, self._target].float().sigmoid()
            share = torch.where(inputs.labelled, params.background, 1.0).to(self._device)
            soft = (score * share[:, None])[..., None]
            figures["features"] = feature_loss(self._features.last, self._teachers_features.last)
            loss = loss + params.feature_gain * max(1 - done, 0.1) * figures["features"]
            if done < params.quick_start:
                return loss, figures
            figures["distribution"] = distribution_loss(outputs["boxes"], theirs["boxes"], score)
            loss = loss + params.distribution_gain * figures["distribution"]
        self._criterion.bce.soft = soft
        corners = inputs.boxes / pictures.shape[-1]
        boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        batch = {"batch_idx": inputs.owners.float(), "cls": torch.zeros(len(boxes), 1), "bboxes": boxes}
        _, three, _ = self._criterion.get_assigned_targets_and_loss(outputs, batch)
        figures |= dict(zip(("box", "score", "sides"), three, strict=True))
        return loss + three.sum(), figures


def pseudo_labelled(pictures: Sequence[Picture], teacher: PersonDetector) -> list[Example]:
    """Label pictures with the teacher's confident detections."""
    detections = teacher(pictures)
    return [
        Example(picture, boxed.boxes[boxed.scores >= PSEUDO_SCORE], labelled=False)
        for picture, boxed in zip(pictures, detections, strict=True)
    ]


def train(
    trainer: Trainer,
    run: loop.Run,
    figures: Callable[[Any], dict[str, float]],
    advance: Callable[[int, dict[str, float]], None],
    keep: Callable[[Any], None] = lambda average: None,
) -> Any:
    """Train to the end, from the checkpoint of `run` if there is one, and return the averaged network, on the CPU.

    The end is the last epoch, or the end of the time.

    figures: computes the averaged network's figures for the history, every EVALUATE_EVERY epochs.
    advance: called after each step with the number of steps done and its losses.
    keep: called with the averaged network after each epoch, so that a run that is stopped leaves weights.
    """
    progress = run.resume(**trainer.parts())
    trainer.schedule = loop.Schedule(trainer.params.epochs, trainer.params.minutes, progress.seconds)
    advance(progress.epoch * trainer.steps_per_epoch, {})
    while trainer.schedule.done(progress.epoch) < 1:
        sums, count = dict[str, float](), 0
        for losses in trainer.epoch(progress.epoch):
            count += 1
            advance(progress.epoch * trainer.steps_per_epoch + count, losses)
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value
        if not count:
            break
        progress.epoch += 1
        row: dict[str, float | str] = {key: value / count for key, value in sums.items()}
        if progress.epoch % EVALUATE_EVERY == 0 or trainer.schedule.done(progress.epoch) == 1:
            row |= figures(trainer.average.module)
        progress.seconds = trainer.schedule.seconds
        run.save(progress, row, **trainer.parts())
        keep(trainer.average.module)
    return trainer.average.module.cpu()


def blended(network: Any, start: Path, share: float) -> Any:
    """Return `network` with the weighted mean of its weights and those of `start`, which have the weight `share`.

    Networks between the two keep what each of them knows (WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot
    models", 2022).
    """
    old = read_checkpoint(start)
    state = {
        name: torch.lerp(tensor.float(), old[name].float(), share) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    mixed = copy.deepcopy(network)
    mixed.load_state_dict(state)
    return mixed


def as_detector(network: Any, **knobs: Any) -> PersonDetector:
    """Return a PersonDetector around `network`. knobs: arguments of PersonDetector."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        write_network(network, ARCHITECTURE, path, {})
        return PersonDetector(path, **knobs)
