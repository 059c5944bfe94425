"""`rollcall train attributes`: train the starter estimator of age and gender, from pictures to the file that ships."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from jobs.cli.console import duration, say
from jobs.shared.estimators import show_figures, write_predictions
from jobs.shared.pictures import read_picture
from jobs.train.device import Device, Minutes, TrainingDevice, Workers, decided
from jobs.train.entries import RESEARCH_ONLY, Licence, entry_of, write_entries
from jobs.train.sides import split_of
from jobs.train.watch import watching
from pipeline.corpora import utkface
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.models.attributes import AttributeFile, AttributeNet, Calibration, load_attributes
from pipeline.models.estimator import StarterEstimator
from pipeline.training.attribute_inputs import AttributeTrainingParams, Augmentation, steps_per_epoch
from pipeline.training.attributes import blended, finish, read_faces, settings_of, train
from pipeline.training.loop import Run, use_threads
from pipeline.weights import sha256_of

NAME = "starter-attributes"
UNCALIBRATED = "uncalibrated.safetensors"
"""The weights of a run that has not ended. --calibrate makes an estimator of them."""
BATCH = 16  # same as estimate.batch in conf/base.yaml
RESAMPLES = 1000


def attributes(
    data: Annotated[Path, typer.Option(help="Folder of UTKFace's pictures.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            file_okay=False,
            help="Folder of the run. The same folder resumes the run.",
            show_default=False,
        ),
    ],
    epochs: Annotated[
        int, typer.Option(help="Epochs of --passes over all pictures.", min=1)
    ] = AttributeTrainingParams().epochs,
    passes: Annotated[
        int, typer.Option(help="Passes over all pictures in an epoch.", min=1)
    ] = AttributeTrainingParams().passes,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(help="Pictures per step.", min=2)] = AttributeTrainingParams().batch,
    width: Annotated[
        float, typer.Option(help="Factor of the network's channels. The time per face grows with its square.", min=0.25)
    ] = AttributeTrainingParams().width,
    start: Annotated[
        Path | None,
        typer.Option(help="Start from weights that this command wrote, at --side from the beginning.", dir_okay=False),
    ] = None,
    side: Annotated[
        int, typer.Option(help="Side of the network's pictures in px. The time per face grows with its square.", min=32)
    ] = AttributeTrainingParams().side_px,
    mixed: Annotated[
        float, typer.Option(help="Share of the batches that are mixed (mixup).", min=0, max=1)
    ] = AttributeTrainingParams().mixed,
    degraded: Annotated[
        float, typer.Option(help="Share of the pictures that are degraded as in surveillance video.", min=0, max=1)
    ] = Augmentation().degraded,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights that this command wrote, to learn from beside the labels. Repeat it.",
            dir_okay=False,
            metavar="<file>",
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate.", min=0)
    ] = AttributeTrainingParams().learning_rate,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = AttributeTrainingParams().seed,
    mirrored: Annotated[
        bool, typer.Option(help="Let the estimator judge every face and its mirror image. Takes twice the time.")
    ] = True,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Only calibrate and test the network in this file.", dir_okay=False),
    ] = None,
    blend: Annotated[
        float,
        typer.Option(
            help="Share of the trained weights in the mean with those of --start. Also of --calibrate's.", min=0, max=1
        ),
    ] = 1.0,
    licence: Licence = RESEARCH_ONLY,
    threads: Annotated[int, typer.Option(help="CPU cores to use.", min=1)] = 1,
    device: TrainingDevice = Device.AUTO,
    workers: Workers = 0,
) -> None:
    """Train, calibrate and test the starter estimator of age and gender, and write it with its registry entry."""
    use_threads(threads)
    chosen = decided(device)
    params = AttributeTrainingParams(
        epochs=epochs,
        passes=passes,
        minutes=minutes,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        width=width,
        side_px=side,
        mixed=mixed,
        augmentation=Augmentation(degraded=degraded),
    )
    first = None
    if start:
        params = replace(params, small_share=0.0)
        first, file = load_attributes(start)
        if file.width != width:
            raise UserError(f"--start {start} has a network of width {file.width:g}; give --width {file.width:g}")
    elif blend < 1:
        raise UserError("--blend is the share of the trained weights beside those of --start; give --start FILE")
    given = load_attributes(calibrate) if calibrate else None
    if calibrate and given and first and given[1].width != width:
        raise UserError(
            f"--calibrate {calibrate} has a network of width {given[1].width:g}, and --start one of {width:g}; "
            "give the file from which its training started"
        )
    table = utkface.load(data)
    sides = {str(side): rows for side, rows in table.groupby(split_of(table, output))}
    say(", ".join(f"{side}: {len(rows):,} pictures" for side, rows in sides.items()))
    if missing := {"train", "validation", "test"} - sides.keys():
        raise UserError(
            f"{data} has too few pictures: no picture falls to {', '.join(sorted(missing))}; give a larger data set"
        )
    if given is None:
        settings = settings_of(params) | ({"teachers": [sha256_of(file) for file in teacher]} if teacher else {})
        settings |= {"start": sha256_of(start)} if start else {}
        teachers = [load_attributes(file)[0] for file in teacher or []]
        network = _train(sides, params, Run(output, settings), chosen, workers, first, teachers, mirrored)
        side_px, made = params.side_px, f"Trained by `rollcall train attributes` on {len(sides['train'])}"
    else:
        network, file = given
        side_px = file.side_px
        made = f"Calibrated by `rollcall train attributes --calibrate {calibrate}` on {len(sides['validation'])}"
    if first and blend < 1:
        network = blended(first, network, blend)

    say("calibrating")
    path = output / f"{NAME}.safetensors"
    finish(network, side_px, sides["validation"], read_picture, path, mirrored=mirrored, batch=BATCH, device=chosen)
    estimator = StarterEstimator(path, batch=BATCH, device=chosen, half=False)
    parts = evaluation.judge(sides["test"], read_picture, estimator, batch=BATCH, copies_px=evaluation.COPIES_PX)
    judged = pd.concat(parts, ignore_index=True).assign(estimator=NAME)
    write_predictions(judged, output / "test.csv")
    summary = evaluation.summary(judged, resamples=RESAMPLES, seed=seed)
    (output / "test.json").write_text(json.dumps(summary, indent=1) + "\n")
    show_figures({NAME: summary})
    if given is None:
        seconds = pd.read_csv(output / "history.csv")["seconds"].iloc[-1]
        say(f"trained in {duration(seconds)}")
    say(str(path))
    entry_name = f"{output.resolve().name}-attributes"
    entry = entry_of(
        path,
        output,
        kind="attributes",
        licence=licence,
        model_input=f"{side_px} px, RGB, 0..255",
        note=f"{made} pictures of {data.name}.",
    )
    write_entries(output, {entry_name: entry}, "estimate.estimator")


def _train(
    sides: Mapping[str, pd.DataFrame],
    params: AttributeTrainingParams,
    run: Run,
    device: str,
    workers: int,
    start: AttributeNet | None,
    teachers: Sequence[AttributeNet],
    mirrored: bool,
) -> AttributeNet:
    """Train. UNCALIBRATED in the folder of the run holds the weights of the last epoch meanwhile."""
    training, validation = (read_faces(sides[side], read_picture) for side in ("train", "validation"))
    if len(training) < params.batch:
        raise UserError(f"--batch {params.batch} exceeds the {len(training)} faces to train on; lower it")

    def keep(average: AttributeNet) -> None:
        neutral = Calibration.neutral()
        file = AttributeFile(side_px=params.side_px, mirrored=mirrored, calibration=neutral, width=params.width)
        file.write(run.folder / UNCALIBRATED, average)

    with watching(steps_per_epoch(len(training), params) * params.epochs) as advance:
        return train(
            training,
            validation,
            params,
            run,
            advance,
            device,
            start=start,
            workers=workers,
            teachers=teachers,
            keep=keep,
        )
