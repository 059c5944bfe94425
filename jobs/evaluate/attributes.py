"""`rollcall evaluate attributes`: measure how well estimators judge the age and gender of labelled faces."""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.progress import Progress

from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.estimators import (
    OpenedEstimator,
    Side,
    estimator_entry,
    open_estimator,
    parse_sizes,
    read_faces,
    show_figures,
    write_predictions,
)
from jobs.shared.pictures import read_picture
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.evaluation.plots import plot_speed


def attributes(
    data: Annotated[
        Path,
        typer.Option(
            help="A data set; see `rollcall datasets list`: a folder of UTKFace or FG-NET, Adience's folds, or a CSV.",
            show_default=False,
        ),
    ],
    estimator: Annotated[
        list[str],
        typer.Option(
            help="A registry entry, or starter. Repeat it, or separate entries by commas.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            dir_okay=False, help="CSV for every prediction. A .png of the same name is written too.", show_default=False
        ),
    ],
    split: Annotated[Side, typer.Option(help="A side of the split with which the starter was trained.")] = Side.ALL,
    sizes: Annotated[
        str, typer.Option(help="Sides in px, such as 16,32. Copies scaled down to them are judged too.")
    ] = "",
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures if they do not lie beside the labels.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Most faces to judge, drawn with --seed.", min=1)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap; 0: no intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of --limit.")] = 0,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Estimate age and gender of labelled faces, taken as aligned crops, and measure the errors."""
    names = [part.strip() for text in estimator for part in text.split(",") if part.strip()]
    names = list(dict.fromkeys(map(estimator_entry, names)))
    if not names:
        raise UserError("--estimator is empty; give a registry entry, such as starter")
    copies_px = parse_sizes(sizes)
    faces = read_faces(data, split, pictures=pictures, limit=limit, seed=seed)
    opened = []
    for name in names:
        chosen = load(config or [], [*(settings or []), f"estimate.estimator={name}"], profile)
        opened.append(open_estimator(name, chosen))
    judged = pd.concat([_judge(judge, faces, copies_px) for judge in opened], ignore_index=True)
    write_predictions(judged, output)
    summaries = {
        judge.name: {
            **evaluation.summary(judged[judged["estimator"] == judge.name], resamples=resamples, seed=seed),
            "sha256": judge.sha256,
        }
        for judge in opened
    }
    show_figures(summaries)
    pooled = {name: summary["pooled"] for name, summary in summaries.items()}
    plot_speed(pooled, output.with_suffix(".png"))
    if json_file:
        first = summaries[names[0]]
        report = {"data": str(data), "split": split.value, "limit": limit, "pooled": first["pooled"], "by": first["by"]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({**report, "estimators": summaries}, indent=1) + "\n")


def _judge(opened: OpenedEstimator, faces: pd.DataFrame, copies_px: list[int]) -> pd.DataFrame:
    """Return all predictions of an estimator, with a progress bar on a terminal."""
    console = Console(stderr=True)
    parts = evaluation.judge(faces, read_picture, opened.estimator, batch=opened.batch, copies_px=copies_px)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(opened.name, total=len(faces))
        judged = []
        for part in parts:
            judged.append(part.assign(estimator=opened.name))
            bar.advance(task, len(part) if (part["copy_px"] == 0).all() else 0)
    return pd.concat(judged, ignore_index=True)
