"""`rollcall evaluate attributes`: measure how well estimators judge the age and gender of labelled faces."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jobs.console import say
from jobs.options import STARTER, ConfigFiles, Profile, Settings
from jobs.pictures import read_picture
from jobs.prepare import decide_device
from pipeline.config import Config, load
from pipeline.corpora import splits
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.evaluation.plots import plot_speed
from pipeline.models.estimator import Estimator
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry

STARTER_ENTRY = "starter-attributes"
PLAIN_WIDTH = 160  # columns if there is no terminal


FIGURES = ("mae", "cs5", "gender_accuracy", "ece", "coverage80")


class Side(StrEnum):
    ALL = "all"
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Opened:
    """An estimator in memory.

    name: its registry entry.
    estimator: with its networks loaded.
    batch: faces in one call.
    sha256: of each of its files, by registry entry.
    """

    name: str
    estimator: Estimator
    batch: int
    sha256: dict[str, str | None]


def attributes(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of pictures named as in UTKFace, or a CSV with path, age, gender.", show_default=False
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
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap; 0: no intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Estimate age and gender of labelled faces, taken as aligned crops, and measure the errors."""
    names = [part.strip() for text in estimator for part in text.split(",") if part.strip()]
    names = list(dict.fromkeys(map(entry_of, names)))
    if not names:
        raise UserError("--estimator is empty; give a registry entry, such as starter")
    copies_px = sides_of(sizes)
    faces = read_faces(data, split)
    opened = []
    for name in names:
        chosen = load(config or [], [*(settings or []), f"estimate.estimator={name}"], profile)
        opened.append(open_estimator(name, chosen))
    judged = pd.concat([_judge(judge, faces, copies_px) for judge in opened], ignore_index=True)
    write(judged, output)
    summaries = {
        judge.name: {
            **evaluation.summary(judged[judged["estimator"] == judge.name], resamples=resamples, seed=seed),
            "sha256": judge.sha256,
        }
        for judge in opened
    }
    show(summaries)
    pooled = {name: summary["pooled"] for name, summary in summaries.items()}
    plot_speed(pooled, output.with_suffix(".png"))
    if json_file:
        first = summaries[names[0]]
        report = {"data": str(data), "split": split.value, "pooled": first["pooled"], "by": first["by"]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({**report, "estimators": summaries}, indent=1) + "\n")


def entry_of(name: str) -> str:
    """Return the registry entry for `name`: "starter" is the estimator that ships with Rollcall."""
    return STARTER_ENTRY if name == "starter" else name


def read_faces(data: Path, split: Side) -> pd.DataFrame:
    """Return the labelled faces of a folder or a CSV on one side of the split. Raises UserError if a face has no
    label."""
    faces = load_faces(data)
    unlabelled = faces["age"].isna() & faces["gender"].isna()
    if unlabelled.any():
        raise UserError(f"{faces['path'][unlabelled.idxmax()]} has neither an age nor a gender; label it or remove it")
    if split != Side.ALL:
        say("searching for copies of pictures; they decide the split")
        faces = faces[splits.split_faces(faces) == split.value]
        if faces.empty:
            raise UserError(f"no picture of {data} is on the side {split.value}; give a larger data set")
    return faces


def sides_of(text: str) -> list[int]:
    """Return the sides in px that stand between commas in `text`, ascending. Raises UserError."""
    try:
        sides = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--sizes takes sides in px, got {text!r}; for example 16,32") from None
    if sides and min(sides) < 1:
        raise UserError(f"--sizes takes sides of at least 1 px, got {text!r}; for example 16,32")
    return sorted(set(sides))


def open_estimator(name: str, config: Config) -> Opened:
    """Open the estimator that `config` names, after its files are verified."""
    registry = Registry.of(config, fetch)
    registry.refuse_licences([name], config.licences.allow)
    registry.pull([name])
    estimator = Loader(decide_device(config), registry).estimator()
    assert estimator is not None  # the configuration names an estimator
    return Opened(
        name, estimator, config.estimate.batch, {leaf: registry.sha256(leaf) for leaf in registry.leaves(name)}
    )


def _judge(opened: Opened, faces: pd.DataFrame, copies_px: list[int]) -> pd.DataFrame:
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


def write(judged: pd.DataFrame, path: Path) -> None:
    """Write every prediction to a CSV. It has a column for copies only if there are any."""
    extra = ["estimator", "group", "face_px", *(["copy_px"] if judged["copy_px"].any() else [])]
    path.parent.mkdir(parents=True, exist_ok=True)
    judged[[*evaluation.COLUMNS, *extra]].to_csv(path, index=False, float_format="%.6g")


def show(summaries: dict[str, dict[str, Any]]) -> None:
    """Print a table of every estimator, pooled and by group."""
    table = Table(
        "estimator", "faces", "pictures", "ms/face", "MAE", "CS@5 %", "gender %", "ECE", "coverage %", box=None
    )
    for name, summary in summaries.items():
        _add_row(table, name, "all", summary["pooled"])
        for by, parts in summary["by"].items():
            for label, figures in parts.items():
                _add_row(table, "", f"{by} {label}", figures)
    console = Console()
    (console if console.is_terminal else Console(width=PLAIN_WIDTH)).print(table)


def _add_row(table: Table, name: str, label: str, figures: dict[str, float | None]) -> None:
    def cell(key: str) -> str:
        value, low, high = (figures[f"{key}{end}"] for end in ("", "_low", "_high"))
        factor, digits = {"mae": (1, 2), "ece": (1, 3)}.get(key, (100, 1))  # all others in per cent
        if value is None:
            return "-"
        interval = "" if low is None or high is None else f" ({factor * low:.{digits}f}–{factor * high:.{digits}f})"
        return f"{factor * value:.{digits}f}{interval}"

    cells = [cell(key) for key in FIGURES]
    table.add_row(name, label, f"{figures['pictures']:,}", f"{1000 * (figures['seconds'] or 0):.2f}", *cells)
