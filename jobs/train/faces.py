"""`rollcall train faces`: train the network that looks for faces in crops of people."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from jobs.cli.console import say
from jobs.train.device import Device, Minutes, TrainingDevice, Workers, decided
from jobs.train.entries import RESEARCH_ONLY, Licence, entry_of, write_entries
from jobs.train.watch import watching
from pipeline.corpora.people import LabelledPicture, check_any_box, read_face_crops
from pipeline.errors import UserError
from pipeline.evaluation.face_check import figures_of
from pipeline.media.pictures import resize_to_long_side
from pipeline.models.face_check import KIND, STRIDE, FaceCheck, FaceCheckNet, write_face_check
from pipeline.training import loop
from pipeline.training.detector_inputs import Example
from pipeline.training.face_check import FaceCheckTrainingParams, Trainer, train
from pipeline.weights import Entry

DEFAULTS = FaceCheckTrainingParams()
LONG_SIDE = 320
"""px. Crops are scaled down to it, because they are enlarged to about thrice the size of an input at most."""


def faces(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder with images/ and labels/ of crops, as `rollcall datasets faces` writes it. Repeat it.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: checkpoint, history, weights.", show_default=False)
    ],
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Such a folder to measure on. Nothing is learned from it. Repeat it.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all crops.")] = DEFAULTS.epochs,
    minutes: Minutes = None,
    size: Annotated[int, typer.Option(min=32, help="Side of the inputs in px, a multiple of 8.")] = DEFAULTS.size,
    batch: Annotated[int, typer.Option(min=2, help="Crops per step.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = DEFAULTS.learning_rate,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    device: TrainingDevice = Device.AUTO,
    workers: Workers = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    licence: Licence = RESEARCH_ONLY,
) -> None:
    """Train the network that looks for faces in crops of people. The same command resumes an interrupted run.

    It decides the quick face check, and says where a second network looks for a face and its landmarks. Every epoch
    writes the weights. The registry entries of both are in registry.yaml.
    """
    loop.use_threads(threads)
    if size % STRIDE:
        raise UserError(f"--size must be a multiple of {STRIDE}, got {size}")
    params = FaceCheckTrainingParams(
        epochs=epochs, minutes=minutes, size=size, batch=batch, learning_rate=learning_rate, seed=seed
    )
    crops, tests = _read(data, "--data"), _read(held_out or [], "--held-out")
    if len(crops) < batch:
        raise UserError(f"--data has {len(crops)} crops to train on, fewer than --batch {batch}; lower --batch")
    run_settings = asdict(params) | {"crops": len(crops), "held_out": len(tests)}
    run = loop.Run(output, run_settings)
    trainer = Trainer(crops, params, decided(device), workers)
    path = output / "face-check.safetensors"

    def keep(average: FaceCheckNet) -> None:
        write_face_check(path, average, size, {"training": run_settings})

    def figures(average: FaceCheckNet) -> dict[str, float]:
        keep(average)
        return _figures(path, tests)

    with watching(trainer.steps_per_epoch * epochs) as advance:
        network = train(trainer, run, figures, advance)
    last = figures(network)
    write_face_check(path, network, size, {"held_out": last, "training": run_settings})
    shown = ", ".join(f"{name} {value:.3f}" for name, value in last.items()) or "none"
    say(f"{path}: {path.stat().st_size / 1e6:.2f} MB; {len(tests)} crops held out: {shown}")
    check = entry_of(
        path,
        output,
        kind=KIND,
        licence=licence,
        model_input=f"{size} px, RGB, 0..255",
        note=f"Trained by `rollcall train faces` on {len(crops)} crops of people.",
    )
    name = f"{output.resolve().name}-face"
    parts = {"check": f"{name}-check", **{part: f"mtcnn-{part}" for part in ("pnet", "rnet", "onet")}}
    entries = {name: Entry(kind="refined-faces", parts=parts), parts["check"]: check}
    write_entries(output, entries, f"candidates.look={parts['check']} --set faces.detector")


def _read(folders: Sequence[Path], option: str) -> list[Example]:
    """Return the crops of all folders that an option names, no larger than a training needs them. Raises UserError if
    none has a face."""
    labelled = [labels for folder in folders for labels in read_face_crops(folder)]
    if folders:
        check_any_box(labelled, "face", f"{option} {', '.join(map(str, folders))}")
    return [_small(labels) for labels in labelled]


def _small(labels: LabelledPicture) -> Example:
    picture = np.ascontiguousarray(resize_to_long_side(labels.picture, LONG_SIDE))
    scale = np.array(
        [new / old for new, old in zip(picture.shape[1::-1], labels.picture.shape[1::-1], strict=True)] * 2
    )
    return Example(picture, (labels.boxes * scale).astype(np.float32), labelled=True)


def _figures(path: Path, tests: Sequence[Example]) -> dict[str, float]:
    if not tests:
        return {}
    check = FaceCheck(path, batch=8, min_score=0.01, device="cpu", half=False)
    return figures_of(check([labels.picture for labels in tests]), [labels.boxes for labels in tests])
