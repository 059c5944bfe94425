"""`rollcall train detector`: train a small detector of people or of faces."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jobs.console import say
from jobs.options import STARTER, ConfigFiles, Profile, Settings
from jobs.train.entries import Licence, entry_of, teacher_path, write_entries
from jobs.train.watch import watching
from pipeline.config import load
from pipeline.corpora import people
from pipeline.errors import UserError
from pipeline.evaluation.detector import average_precision, match
from pipeline.models.person_detector import STRIDE, PersonDetector, write_network
from pipeline.storage.blobs import fetch
from pipeline.training import loop
from pipeline.training.detector import (
    ARCHITECTURE,
    DetectorTrainingParams,
    Example,
    Trainer,
    as_detector,
    blended,
    pseudo_labelled,
    train,
)
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
    "device": "cpu",
    "half": False,
}


class Target(StrEnum):
    """The object class of the new network. It decides the kind of its registry entry and the setting that the entry
    may fill."""

    PERSON = "person"
    FACE = "face"

    @property
    def kind(self) -> str:
        return "yolo" if self == Target.PERSON else "yolo-face"

    @property
    def knob(self) -> str:
        return "observe.detector.weights" if self == Target.PERSON else "candidates.look"


def detector(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ in YOLO form.", show_default=False)],
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: checkpoint, history, weights.", show_default=False)
    ],
    name: Annotated[Target, typer.Option(help="What the boxes are of.")] = Target.PERSON,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="A video, a picture, or a folder of them, that the teacher labels; repeat it."),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="A registry entry that finds the same, YOLOv8n in shape; or none.")
    ] = "none",
    start: Annotated[
        Path | None, typer.Option(help="Weights that this command wrote, to begin from instead of random ones.")
    ] = None,
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Share of --start in the mean of weights that is written (WiSE-FT).")
    ] = 0.0,
    per_second: Annotated[float, typer.Option(min=0.01, help="Frames a second of videos.")] = 2.0,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of --data left out, by groups of near-duplicates.")
    ] = 0.1,
    split_seed: Annotated[int, typer.Option(min=0, help="Of what is left out.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all pictures.")] = DEFAULTS.epochs,
    size: Annotated[
        list[int] | None,
        typer.Option(help="px, sides of the inputs, multiples of 32; repeat it.  [default: 256, 320, 384]"),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0, help="Its peak.")] = DEFAULTS.learning_rate,
    close: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the pictures that are zoomed in on a person.")
    ] = DEFAULTS.close,
    quick_start: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps, at first, on the teacher's features alone.")
    ] = DEFAULTS.quick_start,
    feature_gain: Annotated[
        float, typer.Option(min=0, help="Of the loss on the teacher's features; falls to a tenth.")
    ] = DEFAULTS.feature_gain,
    background: Annotated[
        float, typer.Option(min=0, max=1, help="What the teacher's score counts where labels see nobody.")
    ] = DEFAULTS.background,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and augmentation.")] = DEFAULTS.seed,
    licence: Licence = LICENCE,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Train a YOLOv8n with a single class. The same command resumes an interrupted run.

    The held-out pictures are in held-out/ afterwards and their boxes in held-out.csv, for `rollcall evaluate
    detector`. The registry entry is in registry.yaml.
    """
    loop.use_threads(threads)
    sizes = tuple(size or DEFAULTS.sizes)
    if odd := [each for each in sizes if each < STRIDE or each % STRIDE]:
        raise UserError(f"--size must be a multiple of {STRIDE}, got {odd[0]}")
    if unlabelled and teacher == "none":
        raise UserError("--unlabelled pictures have no boxes; name a --teacher that labels them")
    if keep and not start:
        raise UserError("--keep is a share of --start; name both or neither")
    master = None
    if teacher != "none":
        registry = Registry.of(load(config or [], settings or [], profile), fetch)
        master = teacher_path(registry, teacher, name.kind)
    params = DetectorTrainingParams(
        epochs=epochs,
        batch=batch,
        sizes=sizes,
        learning_rate=learning_rate,
        close=close,
        quick_start=quick_start,
        feature_gain=feature_gain,
        background=background,
        seed=seed,
    )
    knobs: dict[str, Any] = KNOBS | {"target": name.value}
    examples, tests = _examples(data, held_out, split_seed)
    if unlabelled and master:
        pictures = people.read_unlabelled(unlabelled, per_second=per_second, long_side=LONG_SIDE)
        examples += pseudo_labelled(pictures, PersonDetector(master, image_size=TEACHER_AT, **knobs))
    if len(examples) < batch:
        raise UserError(f"{data} has {len(examples)} pictures to train on, fewer than --batch {batch}; lower it")
    told = asdict(params) | {"sizes": list(sizes), "teacher": teacher, "pictures": len(examples)}
    told |= {"start": sha256_of(start)} if start else {}
    told |= {"name": name.value} if name != Target.PERSON else {}
    run = loop.Run(output, told)
    _write_tests(tests, output)
    network = PersonDetector(master, image_size=TEACHER_AT, **knobs) if master else None
    trainer = Trainer(examples, params, network, start, name.value)

    def figures(average: Any) -> dict[str, float]:
        return _figures(as_detector(average, image_size=EVALUATED_AT, **knobs), tests) if tests else {}

    with watching(trainer.steps_per_epoch * epochs) as advance:
        average = train(trainer, run, figures, advance)
    if start and keep:
        average = blended(average, start, keep)
    path, last = output / "detector.safetensors", figures(average)
    write_network(average, ARCHITECTURE, path, {"held_out": last, "training": told | ({"keep": keep} if keep else {})})
    shown = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB; {len(tests)} pictures held out: {shown}")
    own = f"{output.resolve().name}-{name.value}"
    entry = entry_of(
        path,
        output,
        kind=name.kind,
        licence=licence,
        seen=f"long side {max(sizes)} px, RGB, 0..1",
        note=f"Trained by `rollcall train detector` on {len(examples)} pictures, {data.name} among them.",
    )
    write_entries(output, {own: entry}, name.knob)


def _examples(data: Path, share: float, split_seed: int) -> tuple[list[Example], list[people.LabelledPicture]]:
    """Return the examples for training and the held-out pictures."""
    labelled = people.read_people(data)
    away = people.held_out(people.near_duplicates([each.picture for each in labelled]), share, split_seed)
    examples = [
        Example(each.picture, each.boxes, labelled=True) for each, out in zip(labelled, away, strict=True) if not out
    ]
    return examples, [each for each, out in zip(labelled, away, strict=True) if out]


def _write_tests(tests: Sequence[people.LabelledPicture], output: Path) -> None:
    folder = output / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    with (output / "held-out.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "xmin", "ymin", "xmax", "ymax"])
        for each in tests:
            link = folder / each.path.name
            if not link.exists():
                link.symlink_to(each.path.resolve())
            rows.writerows([each.path.name, *(round(float(x), 2) for x in box)] for box in each.boxes)


def _figures(finder: PersonDetector, tests: Sequence[people.LabelledPicture]) -> dict[str, float]:
    found = finder([each.picture for each in tests])
    ap = average_precision([match(each, truth.boxes) for each, truth in zip(found, tests, strict=True)])
    return {"ap50": float(ap[0]), "ap": float(np.mean(ap))}
