"""`rollcall evaluate faces`: measure how well face embedders tell people apart."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.table import Table

from jobs.cli.console import console
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import decide_device
from jobs.shared.estimators import faces_with_pictures
from jobs.shared.pictures import read_picture
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.evaluation import faces as evaluation
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import LISTED, Registry
from pipeline.weights.kinds import kinds_of

SHOWN = {"auc": "AUC", "found": "found at 1 % false"}


def faces(
    data: Annotated[
        Path,
        typer.Option(
            help="A data set that names its people: FG-NET, Adience's folds, or a CSV with path, age, gender, person.",
            show_default=False,
        ),
    ],
    embedder: Annotated[
        list[str], typer.Option(help="A registry entry that embeds faces. Repeat it.", show_default=False)
    ],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures if they do not lie beside the labels.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most people, drawn with --seed.", min=2)] = 200,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the bootstrap; 0: no intervals.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of --limit.")] = 0,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Compare all pairs of labelled faces, taken as aligned crops: those of one person with those of two people."""
    chosen, people = _people(faces_with_pictures(data, pictures), data, limit, seed)
    measured: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(embedder):
        opened = decide_device(load(config or [], [*(settings or []), f"estimate.face_embedding={name}"], profile))
        registry = Registry.of(opened, fetch)
        if registry.entry(name).kind not in kinds_of("face_embedding"):
            kinds = " or ".join(kinds_of("face_embedding"))
            raise UserError(
                f"--embedder must be of kind {kinds}, {name} is of kind {registry.entry(name).kind}; {LISTED}"
            )
        registry.refuse_licences([name], opened.licences.allow)
        registry.pull([name])
        network = Loader(opened, registry).face_embedder()
        assert network is not None  # the configuration names one
        vectors = evaluation.embed(chosen, read_picture, network, batch=opened.estimate.batch)
        rng = np.random.default_rng(seed)
        measured[name] = {
            "sha256": registry.sha256(name),
            "pooled": evaluation.figures(vectors, people, resamples=resamples, rng=rng),
        }
    _show(measured)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        first = next(iter(measured.values()))
        report = {"data": str(data), "pooled": first["pooled"], "embedders": measured}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


def _people(
    labelled: pd.DataFrame, data: Path, limit: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the faces of at most `limit` people, and the number of each one's person. Raises UserError."""
    named = labelled[labelled["person"].notna()]
    names = named["person"].unique()
    if len(names) < 2 or not named["person"].duplicated().any():
        raise UserError(
            f"{data} has no two pictures of one person and one of another; give a data set that names its people"
        )
    drawn = pd.Series(names).sample(min(limit, len(names)), random_state=seed)
    chosen = named[named["person"].isin(drawn)]
    numbers, _ = pd.factorize(chosen["person"])
    return chosen, numbers.astype(np.int64)


def _show(measured: dict[str, dict[str, Any]]) -> None:
    table = Table("embedder", "faces", "people", *SHOWN.values(), box=None, pad_edge=False)
    for name, result in measured.items():
        figures = result["pooled"]
        cells = [_cell(figures[key], figures[f"{key}_interval"]) for key in SHOWN]
        table.add_row(name, f"{figures['faces']:,}", f"{figures['people']:,}", *cells)
    console.print(table)


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"
