"""Estimators of age and gender that commands measure: their faces, their predictions, and the table of figures."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from jobs.cli.console import count, say
from jobs.shared.checks import decide_device
from pipeline.config import Config
from pipeline.corpora import splits
from pipeline.corpora.clean import NO_PICTURE, clean
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError
from pipeline.evaluation import attributes as evaluation
from pipeline.interfaces import AttributeEstimator
from pipeline.models.loading import Loader
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry

STARTER_ENTRY = "starter-attributes"
PLAIN_WIDTH = 160  # columns if there is no terminal
FIGURES = ("mae", "cs5", "gender_accuracy", "ece", "coverage80")


class Side(StrEnum):
    """A side of a split, or all of them."""

    ALL = "all"
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class OpenedEstimator:
    """An estimator in memory.

    name: its registry entry.
    estimator: with its networks loaded.
    batch: faces in one call.
    sha256: of each of its files, by registry entry.
    """

    name: str
    estimator: AttributeEstimator
    batch: int
    sha256: dict[str, str | None]


def estimator_entry(name: str) -> str:
    """Return the registry entry for `name`: "starter" is the estimator that ships with Rollcall."""
    return STARTER_ENTRY if name == "starter" else name


def read_faces(
    data: Path, split: Side, *, pictures: Path | None = None, limit: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return the labelled faces of a corpus on one side of the split. Those without a picture, and those with neither
    an age nor a gender, are left out. Raises UserError if no face is left.

    pictures: their folder, if they do not lie beside the labels.
    limit: most faces, drawn with `seed`; None: all.
    """
    faces = faces_with_pictures(data, pictures)
    labelled = faces["age"].notna() | faces["gender"].notna()
    if not labelled.all():
        say(f"{count(int((~labelled).sum()), 'face')} left out: they have neither an age nor a gender")
        faces = faces[labelled]
    if faces.empty:
        raise UserError(f"no picture of {data} has an age or a gender; label them first")
    if split != Side.ALL:
        say("searching for copies of pictures; they decide the split")
        faces = faces[splits.split_faces(faces) == split.value]
        if faces.empty:
            raise UserError(f"no picture of {data} is on the side {split.value}; give a larger data set")
    return faces if limit is None or limit >= len(faces) else faces.sample(limit, random_state=seed)


def faces_with_pictures(data: Path, pictures: Path | None = None) -> pd.DataFrame:
    """Return the labelled faces of a corpus whose pictures are there. Raises UserError if there is none.

    pictures: as in `read_faces`.
    """
    faces, removed = clean(load_faces(data, pictures=pictures), [NO_PICTURE])
    if removed[NO_PICTURE]:
        say(f"{count(removed[NO_PICTURE], 'face')} left out: their pictures are missing")
    if faces.empty:
        raise UserError(f"{data} has no picture that is there; give their folder with --pictures")
    return faces


def parse_sizes(text: str) -> list[int]:
    """Return the sides in px that stand between commas in `text`, ascending. Raises UserError."""
    try:
        sides = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--sizes takes sides in px, got {text!r}; for example 16,32") from None
    if sides and min(sides) < 1:
        raise UserError(f"--sizes takes sides of at least 1 px, got {text!r}; for example 16,32")
    return sorted(set(sides))


def open_estimator(name: str, config: Config) -> OpenedEstimator:
    """Open the estimator that `config` names, after its files are verified."""
    registry = Registry.of(config, fetch)
    registry.refuse_licences([name], config.licences.allow)
    registry.pull([name])
    estimator = Loader(decide_device(config), registry).estimator()
    assert estimator is not None  # the configuration names an estimator
    return OpenedEstimator(
        name, estimator, config.estimate.batch, {leaf: registry.sha256(leaf) for leaf in registry.leaves(name)}
    )


def write_predictions(judged: pd.DataFrame, path: Path) -> None:
    """Write every prediction to a CSV. It has a column for copies only if there are any."""
    extra = ["estimator", "group", "face_px", *(["copy_px"] if judged["copy_px"].any() else [])]
    path.parent.mkdir(parents=True, exist_ok=True)
    judged[[*evaluation.COLUMNS, *extra]].to_csv(path, index=False, float_format="%.6g")


def show_figures(summaries: dict[str, dict[str, Any]]) -> None:
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
