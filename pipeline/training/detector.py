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
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.models.networks import fill, read_checkpoint
from pipeline.models.person_detector import PersonDetector, new_model, write_network
from pipeline.training import loop
from pipeline.training.detector_inputs import Example, Inputs, Task, compose
from pipeline.training.detector_losses import BLOCKS, Features, SoftBackground, distribution_loss, feature_loss

ARCHITECTURE = "yolov8n.yaml"
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
"""The gains of Ultralytics' configuration."""
PSEUDO_SCORE = 0.5
"""On unlabelled pictures, a teacher's detection with at least this score becomes a label."""
EVALUATE_EVERY = 4


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


# --- pictures ---------------------------------------------------------------------------------------------------------


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
