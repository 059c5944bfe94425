"""`rollcall train networks`: train the networks of the earlier systems with cross-validation."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from jobs.cli.console import say
from jobs.shared.pictures import read_picture
from jobs.train.device import Device, TrainingDevice, decided
from jobs.train.entries import RESEARCH_ONLY, Licence, entry_of, write_entries
from jobs.train.sides import split_of
from jobs.train.watch import watching
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.models.classics import ClassicFile, build_classic
from pipeline.models.estimator import NetworkEstimator
from pipeline.models.networks import Runner
from pipeline.training import networks as training
from pipeline.training.loop import Run, use_threads
from pipeline.weights import sha256_of

DEFAULTS = training.NetworkTrainingParams()


class Network(StrEnum):
    """The networks of earlier systems that can be trained."""

    INCEPTIONV3 = "inceptionv3"
    MOBILENETV2 = "mobilenetv2"
    SSRNET = "ssrnet"
    LEVI_HASSNER = "levi-hassner"


def networks(
    network: Annotated[Network, typer.Option(help="The network to train.", show_default=False)],
    data: Annotated[
        Path, typer.Option(help="UTKFace's folder or any data set of `rollcall datasets list`.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder of the run. The same folder resumes the run.", show_default=False),
    ],
    folds: Annotated[
        int, typer.Option(min=3, help="Number of parts. A person or the copies of a picture share a part.")
    ] = 10,
    fold: Annotated[
        list[int] | None,
        typer.Option(help="Part to test on, from 0; the next decides when to stop, the rest train. Repeat it."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="torchvision's file of ImageNet weights. Default: random weights.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all pictures.")] = DEFAULTS.epochs,
    batch: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = DEFAULTS.learning_rate,
    crops: Annotated[int, typer.Option(help="Crops that levi-hassner judges per face: 10 or 1.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    limit: Annotated[int | None, typer.Option(min=30, help="Most pictures to use in all.")] = None,
    licence: Licence = RESEARCH_ONLY,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    device: TrainingDevice = Device.AUTO,
) -> None:
    """Train one of the earlier systems' networks fold by fold, test each on its part, and write its registry entry."""
    use_threads(threads)
    compute = decided(device)
    if crops not in (1, 10):
        raise UserError(f"--crops must be 10 or 1, got {crops}")
    chosen = list(range(folds)) if fold is None else fold
    if not set(chosen) <= set(range(folds)):
        raise UserError(f"--fold must be 0 … {folds - 1}, got {', '.join(map(str, chosen))}")
    params = training.NetworkTrainingParams(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
    faces = training.known(load_faces(data))
    if limit is not None and limit < len(faces):
        faces = faces.sample(limit, random_state=seed).sort_index()
    parts = split_of(faces, output, {str(part): 1 / folds for part in range(folds)}).astype(int)
    run_settings = asdict(params) | {"network": network.value, "init": None if init is None else sha256_of(init)}
    run_settings |= {"data": str(data), "limit": limit, "folds": folds}
    say(f"{network.value} from {'random weights' if init is None else init}, {len(faces)} faces in {folds} parts")
    rows, entries = [], {}
    for part in chosen:
        run = Run(output / f"fold-{part}", run_settings | {"fold": part})
        sides = {"test": parts == part, "validation": parts == (part + 1) % folds}
        sides["train"] = ~(sides["test"] | sides["validation"])
        figures, file = _fold(network.value, faces, sides, params, run, init, crops, compute)
        rows.append({"fold": part, **{name: figures[name] for name in ("mae", "cs5", "gender_accuracy")}})
        say(f"fold {part}, {sides['test'].sum()} faces: {json.dumps(figures)}")
        name = f"{network.value}-{part}"
        note = f"Trained by `rollcall train networks` on {int(sides['train'].sum())} faces of {data.name}."
        side_px = build_classic(network.value).side_px
        model_input = f"{side_px} px, what UTKFace's pictures show of a face"
        entries[name] = entry_of(file, output, kind="network", licence=licence, model_input=model_input, note=note)
    table = pd.DataFrame(rows)
    table.to_csv(output / "folds.csv", index=False)
    say(f"means over {len(rows)} folds: {json.dumps(table.drop(columns='fold').mean().round(4).to_dict())}")
    write_entries(output, entries, "estimate.estimator")


def _fold(
    name: str,
    faces: pd.DataFrame,
    sides: dict[str, "pd.Series[bool]"],
    params: training.NetworkTrainingParams,
    run: Run,
    init: Path | None,
    crops: int,
    device: str,
) -> tuple[dict[str, float | int | None], Path]:
    """Train, calibrate, write and test a network. Return the figures on the test side, and the file."""
    network = training.start(name, crops, params, init)
    labelled = {
        side: training.read(faces[sides[side]], read_picture, network.stored_px) for side in ("train", "validation")
    }
    with watching(params.epochs) as advance:
        training.train(network, labelled["train"], labelled["validation"], params, run, advance, device)
    path = run.folder / "network.safetensors"
    raw = Runner(network.to(device), batch=training.BATCH, device=device, half=False)
    calibration = training.calibrated(raw, labelled["validation"])
    ClassicFile(name=name, crops=crops, calibration=calibration).write(path, network.cpu())
    estimator = NetworkEstimator(path, batch=training.BATCH, device=device, half=False)
    judged = pd.concat(evaluation.judge(faces[sides["test"]], read_picture, estimator, batch=training.BATCH))
    judged.to_csv(run.folder / "predictions.csv", index=False)
    figures = evaluation.figures(judged, resamples=1000, rng=np.random.default_rng(0))
    (run.folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures, path
