"""`rollcall train heads`: train layers for age, gender and age buckets on the vectors of a face embedder."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from jobs.cli.console import say
from jobs.cli.options import ConfigFiles, Settings
from jobs.shared.pictures import read_picture
from jobs.train.device import Device, TrainingDevice, decided
from jobs.train.entries import RESEARCH_ONLY, Licence, entry_of, write_entries
from jobs.train.sides import split_of
from jobs.train.watch import watching
from pipeline.config import load
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.models.aligned import UTKFACE
from pipeline.models.attributes import Calibration
from pipeline.models.estimator import BOSCH_YEARS, HeadsEstimator
from pipeline.models.face_embedder import FaceEmbedder, View
from pipeline.models.heads import HeadsFile
from pipeline.models.loading import naming
from pipeline.storage.blobs import fetch
from pipeline.training import heads as training
from pipeline.training.loop import Run, use_threads
from pipeline.weights import LISTED, Entry, Registry, sha256_of
from pipeline.weights.kinds import FACE_EMBEDDERS

DEFAULTS = training.HeadTrainingParams()


class Shown(StrEnum):
    """The part of an aligned face that the embedder gets: as much as UTKFace's pictures show, or the embedder's
    usual crop."""

    FACE = "face"
    IDENTITY = "identity"


def heads(
    data: Annotated[
        Path, typer.Option(help="UTKFace's folder or any data set of `rollcall datasets list`.", show_default=False)
    ],
    embedder: Annotated[str, typer.Option(help="A registry entry that embeds faces.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder of the run. The same folder resumes the run.", show_default=False),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the new registry entry. Default: EMBEDDER-heads.")] = None,
    shown: Annotated[
        Shown, typer.Option(help="face: the inner face. identity: the embedder's usual crop.")
    ] = Shown.FACE,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over all faces.")] = DEFAULTS.epochs,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after these epochs without improvement.")
    ] = DEFAULTS.patience,
    batch: Annotated[int, typer.Option(min=1, help="Vectors per step.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = DEFAULTS.learning_rate,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and order.")] = DEFAULTS.seed,
    limit: Annotated[int | None, typer.Option(min=100, help="Most pictures to use in all.")] = None,
    licence: Licence = RESEARCH_ONLY,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    device: TrainingDevice = Device.AUTO,
    config: ConfigFiles = None,
    settings: Settings = None,
) -> None:
    """Train, calibrate and test heads, and write them with their registry entry."""
    use_threads(threads)
    chosen = decided(device)
    registry = Registry.of(load(config or [], settings or []), fetch)
    entry = registry.entry(embedder)
    if entry.kind not in FACE_EMBEDDERS:
        raise UserError(
            f"--embedder must be of kind {' or '.join(FACE_EMBEDDERS)}, {embedder} is of kind {entry.kind}; {LISTED}"
        )
    path = registry.path(embedder)
    with naming(embedder):
        network = FaceEmbedder(path, batch=64, device=chosen, half=False)
    if shown == Shown.FACE:
        view = View(UTKFACE, network.view.half_range)
        network = FaceEmbedder(path, batch=64, device=chosen, half=False, view=view)
    params = training.HeadTrainingParams(
        epochs=epochs, patience=patience, batch=batch, learning_rate=learning_rate, seed=seed
    )
    run_settings = asdict(params) | {"dropouts": list(params.dropouts), "data": str(data), "limit": limit}
    run = Run(output, run_settings | {"embedder": sha256_of(path), "shown": shown.value})
    faces = _known(load_faces(data), limit, seed)
    faces = faces.assign(side=split_of(faces, output))
    with watching(len(faces)) as advance:
        vectors = training.embed(
            faces,
            read_picture,
            network,
            output,
            weights=sha256_of(path),
            batch=64,
            advance=lambda done: advance(done, {}),
        )
    sides = {side: (faces["side"] == side).to_numpy() for side in ("train", "validation", "test")}
    with watching(epochs) as advance:
        trained = training.train(vectors[sides["train"]], vectors[sides["validation"]], params, run, advance, chosen)
    weights = output / "heads.safetensors"

    def write(calibration: Calibration) -> None:
        HeadsFile(
            dimensions=network.dimensions, view=network.view, embedder=sha256_of(path), calibration=calibration
        ).write(weights, trained)

    write(Calibration.neutral())
    neutral = HeadsEstimator(path, weights, batch=64, device=chosen, half=False)
    write(training.calibrated(neutral.raw, vectors[sides["validation"]]))
    entry_name = name or f"{embedder}-heads"
    added = {
        entry_name: Entry(kind="heads", parts={"embedder": embedder, "heads": f"{entry_name}-layers"}),
        f"{entry_name}-layers": entry_of(
            weights,
            output,
            kind="dense-heads",
            licence=licence,
            model_input=f"{network.dimensions}-d embedding of {embedder}",
            note=f"Trained by `rollcall train heads` on {int(sides['train'].sum())} faces of {data.name}.",
        ),
    }
    if embedder not in Registry.of(load(), fetch).entries:
        added[embedder] = entry
    estimator = HeadsEstimator(path, weights, batch=64, device=chosen, half=False)
    judged = pd.concat(evaluation.judge(faces[sides["test"]], read_picture, estimator, batch=64))
    figures = evaluation.figures(judged, resamples=1000, rng=np.random.default_rng(0))
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    say(f"on {len(judged)} faces of the test side: {json.dumps(figures)}")
    write_entries(output, added, "estimate.estimator")


def _known(faces: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Return the faces with an age and a gender: all of them, or `limit` drawn at random."""
    known = faces[(faces["age"] <= BOSCH_YEARS) & faces["gender"].notna()]
    return known if limit is None or limit >= len(known) else known.sample(limit, random_state=seed).sort_index()
