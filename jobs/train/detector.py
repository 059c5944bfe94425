"""`rollcall train detector`: train a small detector of people or of faces."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.train.device import Device, Minutes, TrainingDevice, Workers, decided
from jobs.train.entries import Licence, entry_of, teacher_path, write_entries
from jobs.train.watch import watching
from pipeline.config import load
from pipeline.corpora import people
from pipeline.corpora.frames import read_unlabelled
from pipeline.corpora.near_duplicates import held_out, near_duplicates
from pipeline.errors import UserError
from pipeline.evaluation.detector import average_precision, match
from pipeline.models.person_detector import STRIDE, PersonDetector, write_network
from pipeline.storage.blobs import fetch
from pipeline.training import loop
from pipeline.training.detector import (
    ARCHITECTURE,
    DetectorTrainingParams,
    Trainer,
    as_detector,
    blended,
    pseudo_labelled,
    train,
)
from pipeline.training.detector_inputs import Example
from pipeline.weights import Registry, sha256_of

DEFAULTS = DetectorTrainingParams(epochs=20)
EVALUATED_AT = 416
TEACHER_AT = 640
LICENCE = "AGPL-3.0 AND none-stated"
LONG_SIDE = 832
"""px. Pictures without labels are scaled down to it."""
KNOBS: dict[str, Any] = {
    "batch": 8,
    "min_score": 0.01,
    "nms_iou": 0.7,
    "max_per_frame": 300,
    "half": False,
}


class BoxClass(StrEnum):
    """The object class of the new network. It decides the kind of its registry entry and the setting that the entry
    may fill."""

    PERSON = "person"
    FACE = "face"

    @property
    def kind(self) -> str:
        """The kind of the registry entry."""
        return "yolo" if self == BoxClass.PERSON else "yolo-face"

    @property
    def knob(self) -> str:
        """The setting that the entry may fill."""
        return "observe.detector.weights" if self == BoxClass.PERSON else "candidates.look"


def detector(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ in YOLO format.", show_default=False)],
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: checkpoint, history, weights.", show_default=False)
    ],
    name: Annotated[BoxClass, typer.Option(help="The class of the boxes.")] = BoxClass.PERSON,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="A video, a picture or a folder of them for the teacher to label. Repeat it."),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="A registry entry with YOLOv8n's shape that detects the same class; or none.")
    ] = "none",
    start: Annotated[
        Path | None, typer.Option(help="Start from weights that this command wrote, not from random ones.")
    ] = None,
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Share of --start in the weighted mean that is written (WiSE-FT).")
    ] = 0.0,
    per_second: Annotated[float, typer.Option(min=0.01, help="Frames per second of video.")] = 2.0,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of --data to hold out, in groups of near-duplicates.")
    ] = 0.1,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of held-out pictures.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of --passes over all pictures.")] = DEFAULTS.epochs,
    passes: Annotated[int, typer.Option(min=1, help="Passes over all pictures in an epoch.")] = DEFAULTS.passes,
    minutes: Minutes = None,
    size: Annotated[
        list[int] | None,
        typer.Option(help="Side of the inputs in px, a multiple of 32. Repeat it.  [default: 256, 320, 384]"),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = DEFAULTS.learning_rate,
    close: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the pictures that are zoomed in on a person.")
    ] = DEFAULTS.close,
    quick_start: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps that learn only the teacher's features, at first.")
    ] = DEFAULTS.quick_start,
    feature_gain: Annotated[
        float, typer.Option(min=0, help="Weight of the loss on the teacher's features. It falls to a tenth.")
    ] = DEFAULTS.feature_gain,
    background: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the teacher's score where labels have no person.")
    ] = DEFAULTS.background,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    device: TrainingDevice = Device.AUTO,
    workers: Workers = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    licence: Licence = LICENCE,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Train a YOLOv8n with a single class. The same command resumes an interrupted run.

    Every epoch writes the weights, so a run that is stopped leaves those of its last epoch.

    The held-out pictures are in held-out/ afterwards and their boxes in held-out.csv, for `rollcall evaluate
    detector`. The registry entry is in registry.yaml.
    """
    loop.use_threads(threads)
    chosen = decided(device)
    sizes = tuple(size or DEFAULTS.sizes)
    if odd := [side for side in sizes if side < STRIDE or side % STRIDE]:
        raise UserError(f"--size must be a multiple of {STRIDE}, got {odd[0]}")
    if unlabelled and teacher == "none":
        raise UserError("--unlabelled pictures have no boxes; add a --teacher to label them")
    if keep and not start:
        raise UserError("--keep is a share of --start; give both or neither")
    teacher_weights = None
    if teacher != "none":
        registry = Registry.of(load(config or [], settings or [], profile), fetch)
        teacher_weights = teacher_path(registry, teacher, name.kind)
    params = DetectorTrainingParams(
        epochs=epochs,
        minutes=minutes,
        passes=passes,
        batch=batch,
        sizes=sizes,
        learning_rate=learning_rate,
        close=close,
        quick_start=quick_start,
        feature_gain=feature_gain,
        background=background,
        seed=seed,
    )
    knobs: dict[str, Any] = KNOBS | {"target": name.value, "device": chosen}
    labelled = people.read_people(data)
    if not unlabelled:
        people.check_any_box(labelled, name.value, f"--data {data}")
    examples, tests = _examples(labelled, held_out, split_seed)
    if unlabelled and teacher_weights:
        pictures = read_unlabelled(unlabelled, per_second=per_second, long_side=LONG_SIDE)
        examples += pseudo_labelled(pictures, PersonDetector(teacher_weights, image_size=TEACHER_AT, **knobs))
    if len(examples) < batch:
        raise UserError(f"{data} has {len(examples)} pictures to train on, fewer than --batch {batch}; lower --batch")
    run_settings = asdict(params) | {"sizes": list(sizes), "teacher": teacher, "pictures": len(examples)}
    run_settings |= {"start": sha256_of(start)} if start else {}
    run_settings |= {"name": name.value} if name != BoxClass.PERSON else {}
    run = loop.Run(output, run_settings)
    _write_tests(tests, output)
    network = PersonDetector(teacher_weights, image_size=TEACHER_AT, **knobs) if teacher_weights else None
    trainer = Trainer(examples, params, network, start, name.value, chosen, workers)
    path = output / "detector.safetensors"

    def figures(average: Any) -> dict[str, float]:
        return _figures(as_detector(average, image_size=EVALUATED_AT, **knobs), tests) if tests else {}

    def keep_weights(average: Any) -> None:
        write_network(average, ARCHITECTURE, path, {"training": run_settings})

    with watching(trainer.steps_per_epoch * epochs) as advance:
        average = train(trainer, run, figures, advance, keep_weights)
    if start and keep:
        average = blended(average, start, keep)
    last = figures(average)
    write_network(
        average, ARCHITECTURE, path, {"held_out": last, "training": run_settings | ({"keep": keep} if keep else {})}
    )
    shown = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB; {len(tests)} pictures held out: {shown}")
    entry_name = f"{output.resolve().name}-{name.value}"
    entry = entry_of(
        path,
        output,
        kind=name.kind,
        licence=licence,
        model_input=f"long side {max(sizes)} px, RGB, 0..1",
        note=f"Trained by `rollcall train detector` on {len(examples)} pictures, {data.name} among them.",
    )
    write_entries(output, {entry_name: entry}, name.knob)


def _examples(
    labelled: Sequence[people.LabelledPicture], share: float, split_seed: int
) -> tuple[list[Example], list[people.LabelledPicture]]:
    """Return the examples for training and the held-out pictures."""
    away = held_out(near_duplicates([labels.picture for labels in labelled]), share, split_seed)
    examples = [
        Example(labels.picture, labels.boxes, labelled=True)
        for labels, is_away in zip(labelled, away, strict=True)
        if not is_away
    ]
    return examples, [labels for labels, is_away in zip(labelled, away, strict=True) if is_away]


def _write_tests(tests: Sequence[people.LabelledPicture], output: Path) -> None:
    folder = output / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    with (output / "held-out.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "xmin", "ymin", "xmax", "ymax"])
        for labels in tests:
            link = folder / labels.path.name
            if not link.exists():
                link.symlink_to(labels.path.resolve())
            rows.writerows([labels.path.name, *(round(float(x), 2) for x in box)] for box in labels.boxes)


def _figures(detector: PersonDetector, tests: Sequence[people.LabelledPicture]) -> dict[str, float]:
    detections = detector([labels.picture for labels in tests])
    ap = average_precision([match(boxes, labels.boxes) for boxes, labels in zip(detections, tests, strict=True)])
    return {"ap50": float(ap[0]), "ap": float(np.mean(ap))}
