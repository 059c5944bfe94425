"""`rollcall train reid`: train a small body embedder."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from jobs.cli.console import say
from jobs.cli.options import ConfigFiles, Settings
from jobs.train.device import Device, TrainingDevice, decided
from jobs.train.entries import RESEARCH_ONLY, Licence, entry_of, teacher_path, write_entries
from jobs.train.watch import watching
from pipeline.arrays import Picture
from pipeline.config import load
from pipeline.corpora import cuhk03
from pipeline.corpora.frames import read_rgb, read_unlabelled
from pipeline.corpora.people import check_any_box, read_people
from pipeline.errors import UserError
from pipeline.models.networks import write_checkpoint
from pipeline.models.person_detector import PersonDetector
from pipeline.storage.blobs import fetch
from pipeline.training import loop, reid_crops
from pipeline.training import reid as training
from pipeline.weights import Registry, sha256_of

DEFAULTS = training.ReidTrainingParams()
DETECTED_AT = 640
MIN_SCORE = 0.5
LONG_SIDE = 1280


def reid(
    data: Annotated[
        Path, typer.Option(help="Folder of crops named person_index.jpg, as in CUHK03.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: checkpoint, history, weights.", show_default=False)
    ],
    teacher: Annotated[str | None, typer.Option(help="A registry entry of kind reid: an OSNet x0.25.")] = None,
    people: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with images/ and labels/ in YOLO format, for the teacher. Repeat it."),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="A video, a picture or a folder of them to detect people in, for the teacher. Repeat it."),
    ] = None,
    detector: Annotated[str | None, typer.Option(help="A registry entry of kind yolo, for --unlabelled.")] = None,
    per_second: Annotated[float, typer.Option(help="Frames per second of video.")] = 1.0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Number of people to hold out, by the sha256 of their number.")
    ] = 100,
    validated: Annotated[int, typer.Option(min=0, help="Number of further people to measure for the history.")] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all crops.")] = DEFAULTS.epochs,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = DEFAULTS.learning_rate,
    people_per_batch: Annotated[int, typer.Option(min=2, help="People per step.")] = DEFAULTS.people_per_batch,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    device: TrainingDevice = Device.AUTO,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    licence: Licence = RESEARCH_ONLY,
    config: ConfigFiles = None,
    settings: Settings = None,
) -> None:
    """Train an OSNet x0.25 from random weights, and write it with its registry entry.

    The same command resumes an interrupted run.
    """
    loop.use_threads(threads)
    chosen = decided(device)
    if (people or unlabelled) and teacher is None:
        raise UserError("crops of --people and --unlabelled have no names; add a --teacher to embed them")
    if unlabelled and detector is None:
        raise UserError("--unlabelled pictures have no boxes; add a --detector to find the people")
    registry = Registry.of(load(config or [], settings or []), fetch)
    params = training.ReidTrainingParams(
        epochs=epochs, learning_rate=learning_rate, people_per_batch=people_per_batch, seed=seed
    )
    augmentation = reid_crops.Augmentation()
    teacher_network = None if teacher is None else training.read_teacher(teacher_path(registry, teacher, "reid"))
    labelled = cuhk03.load(data)
    away = cuhk03.held_out(labelled.people, held_out)
    validating = cuhk03.held_out(labelled.people, held_out + validated) - away
    run_settings = asdict(params) | {"augmentation": {k: _plain(v) for k, v in asdict(augmentation).items()}}
    run_settings |= {"teacher": teacher, "held_out": held_out, "validated": validated}
    run_settings |= {
        "people": [str(path) for path in people or []],
        "unlabelled": [str(path) for path in unlabelled or []],
    }
    run_settings |= {"detector": detector, "per_second": per_second}
    run = loop.Run(output, run_settings)
    others = _kept(
        output / "unlabelled.npy", lambda: _others(registry, people, unlabelled, detector, per_second, chosen)
    )
    trainer = training.Trainer(
        _people(labelled[~np.isin(labelled.people, [*away, *validating])]),
        others,
        params,
        augmentation,
        teacher_network,
        chosen,
    )
    with watching(trainer.steps_per_epoch * epochs) as advance:
        network = training.train(trainer, run, _people(labelled[np.isin(labelled.people, [*validating])]), advance)
    path = output / "body.safetensors"
    counts = {"people": int(trainer.classifier.out_features), "crops_without_names": len(others)}
    write_checkpoint(path, network.state_dict(), {"architecture": training.ARCHITECTURE, **counts}, half=True)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, trained on {counts}")
    entry_name = f"{output.resolve().name}-body"
    entry = entry_of(
        path,
        output,
        kind="reid",
        licence=licence,
        model_input=f"{reid_crops.HEIGHT}x{reid_crops.WIDTH} px (height x width), RGB, ImageNet mean and deviation",
        note=f"Trained by `rollcall train reid` on {data.name}.",
    )
    space = f"{entry_name}-{sha256_of(path)[:8]}"
    write_entries(output, {entry_name: replace(entry, embedding_space=space)}, "observe.body.weights")


def _people(crops: cuhk03.PersonCrops) -> reid_crops.People:
    pictures = [read_rgb(path) for path in crops.paths]
    return reid_crops.People(
        reid_crops.crops_of(pictures, [_whole_box(picture) for picture in pictures]), crops.people, crops.cameras
    )


def _others(
    registry: Registry,
    people: list[Path] | None,
    unlabelled: list[Path] | None,
    detector: str | None,
    per_second: float,
    device: str,
) -> NDArray[np.uint8]:
    parts = [np.zeros((0, reid_crops.HEIGHT, reid_crops.WIDTH, 3), np.uint8)]
    for folder in people or []:
        labelled = read_people(folder)
        check_any_box(labelled, "person", f"--people {folder}")
        parts.append(
            reid_crops.crops_of([labels.picture for labels in labelled], [labels.boxes for labels in labelled])
        )
    if unlabelled and detector:
        finder = PersonDetector(
            registry.path(detector),
            image_size=DETECTED_AT,
            batch=1,
            min_score=MIN_SCORE,
            nms_iou=0.7,
            max_per_frame=100,
            device=device,
            half=False,
        )
        parts.append(
            reid_crops.crops_found(read_unlabelled(unlabelled, per_second=per_second, long_side=LONG_SIDE), finder)
        )
    return np.concatenate(parts)


def _kept(path: Path, find: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the array in `path`. `find` makes it only once, so that a resumed run uses the same crops."""
    if not path.exists():
        crops = find()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        with draft.open("wb") as file:
            np.save(file, crops)
        draft.replace(path)
    return np.load(path)


def _whole_box(picture: Picture) -> NDArray[np.float32]:
    """Return the box around the whole picture, (1, 4) xyxy px."""
    return np.array([[0, 0, picture.shape[1], picture.shape[0]]], np.float32)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
