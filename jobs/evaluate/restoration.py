"""`rollcall evaluate restoration`: measure whether restoring small faces improves their ages and genders."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import decide_device
from jobs.shared.estimators import PLAIN_WIDTH, Side, estimator_entry, open_estimator, parse_sizes, read_faces
from jobs.shared.pictures import read_picture
from pipeline.config import Config, load
from pipeline.errors import UserError
from pipeline.evaluation.restoration import ENLARGEMENTS, Restore, compare, summary
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry


def restoration(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of pictures named as in UTKFace, or a CSV with path, age, gender.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            dir_okay=False, help="CSV for every face, judged with and without restoration.", show_default=False
        ),
    ],
    restorer: Annotated[
        str, typer.Option(help="A registry entry of kind gfpgan; or bilinear or lanczos, which only enlarge.")
    ] = "lanczos",
    estimator: Annotated[str, typer.Option(help="A registry entry, or starter.")] = "starter",
    sizes: Annotated[str, typer.Option(help="Sides in px to which the pictures are scaled down.")] = "16,24,32,48,64",
    split: Annotated[Side, typer.Option(help="A side of the split with which the starter was trained.")] = Side.ALL,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures if they do not lie beside the labels.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Most faces to judge, drawn with --seed.", min=1)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Estimate labelled faces, scaled down, with and without restoration, and compare each pair.

    The pictures are taken as aligned crops that end at the face. A restorer expects hair and background around them,
    so their border is repeated.
    """
    sides = parse_sizes(sizes)
    if not sides:
        raise UserError("--sizes is empty; give sides in px, such as 16,32")
    name = estimator_entry(estimator)
    knobs = [*(settings or []), f"estimate.estimator={name}"]
    is_network = restorer not in ENLARGEMENTS
    if is_network:
        knobs += ["restore.mode=always", f"restore.weights={restorer}"]
    chosen = load(config or [], knobs, profile)
    opened = open_estimator(name, chosen)
    faces = read_faces(data, split, pictures=pictures, limit=limit, seed=seed)
    restore = _restorer(restorer, chosen) if is_network else None
    parts = compare(
        faces,
        read_picture,
        sides,
        opened.estimator,
        restore=restore,
        enlargement="bilinear" if is_network else restorer,
        batch=opened.batch,
    )
    judged = _watched(parts, len(faces) * len(sides))
    if judged.empty:
        raise UserError(f"every picture in {data} is smaller than {sides[0]} px; give smaller --sizes")
    output.parent.mkdir(parents=True, exist_ok=True)
    judged.to_csv(output, index=False, float_format="%.6g")
    figures = summary(judged)
    _show(figures, restorer)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        report = {"data": str(data), "split": split.value, "estimator": name, "restorer": restorer}
        json_file.write_text(json.dumps({**report, "sizes": figures.to_dict("records")}, indent=1) + "\n")


def _restorer(name: str, config: Config) -> Restore:
    registry = Registry.of(config, fetch)
    if registry.entry(name).kind != "gfpgan":
        raise UserError(
            f"--restorer: {name} is of kind {registry.entry(name).kind}; give an entry of kind gfpgan, or lanczos"
        )
    registry.refuse_licences([name], config.licences.allow)
    registry.pull([name])
    restorer = Loader(decide_device(config), registry).restorer()
    assert restorer is not None  # restore.mode is always
    return restorer


def _watched(parts: Iterator[pd.DataFrame], total: int) -> pd.DataFrame:
    """Return all rows, with a progress bar on a terminal."""
    console = Console(stderr=True)
    judged = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("faces", total=total)
        for part in parts:
            judged.append(part)
            bar.advance(task, len(part))
    return pd.concat(judged, ignore_index=True) if judged else pd.DataFrame()


def _show(figures: pd.DataFrame, restorer: str) -> None:
    table = Table(
        "size",
        "eyes",
        "faces",
        "MAE plain",
        restorer,
        "change (95 %)",
        "gender plain",
        restorer,
        "change (95 %)",
        box=None,
    )
    for line in figures.to_dict("records"):
        table.add_row(
            f"{line['size_px']:.0f} px",
            f"{line['eye_distance_px']:.0f} px",
            f"{line['num_faces']:,}",
            f"{line['mae_plain']:.2f}",
            f"{line['mae_restored']:.2f}",
            f"{line['mae_change']:+.2f} ({line['mae_low']:+.2f} to {line['mae_high']:+.2f})",
            f"{100 * line['gender_accuracy_plain']:.1f} %",
            f"{100 * line['gender_accuracy_restored']:.1f} %",
            f"{100 * line['gender_accuracy_change']:+.1f} "
            f"({100 * line['gender_accuracy_low']:+.1f} to {100 * line['gender_accuracy_high']:+.1f})",
        )
    console = Console()
    (console if console.is_terminal else Console(width=PLAIN_WIDTH)).print(table)
    say(
        "Restoration helps where the MAE changes by less than 0, and gender by more than 0. "
        "An interval around 0 shows neither."
    )
