"""`rollcall datasets`: inspect, clean and split labelled faces, and cut faces out of raw pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.extras import missing_package
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Inspect, clean, split and align labelled faces.", no_args_is_help=True, **PLAIN)

FORMS = (
    ("utkface", "a folder of 25_1_0_20170116….jpg", "age, gender, ethnic group", "non-commercial research"),
    ("imdb-wiki", "imdb.mat or wiki.mat", "age, gender, name", "non-commercial research"),
    ("fgnet", "a folder of 001A02.JPG, or a CSV with full_path", "age, person", "research"),
    ("adience", "a folder of fold_0_data.txt …, or one of them", "age or its range, gender, person", "research"),
    ("csv", "a .csv with path, age, gender, and group and person if known", "those", "your own"),
)
"""Name of the form, what to give as SOURCE, what the labels hold, licence."""

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A folder of pictures, a .csv, a .mat or folds; see `list`.", show_default=False
    ),
]
Pictures = Annotated[
    Path | None,
    typer.Option(help="Folder of the pictures if they do not lie beside the labels.", show_default=False),
]
Corrections = Annotated[
    Path | None, typer.Option(help="A CSV of corrections that `rollcall review` wrote.", show_default=False)
]
Csv = Annotated[Path, typer.Option(metavar="FILE.csv", help="The CSV to write.", show_default=False)]


@app.command("list")
def list_forms() -> None:
    """Show which data sets can be read, and what to give as SOURCE."""
    from rich.console import Console
    from rich.table import Table

    table = Table("form", "SOURCE", "labels", "licence", box=None, pad_edge=False)
    for row in FORMS:
        table.add_row(*row)
    wide = Console()
    (wide if wide.is_terminal else Console(width=160)).print(table)


@app.command()
def clean(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write the remaining labels to this CSV.", show_default=False),
    ] = None,
    pictures: Pictures = None,
    corrections: Corrections = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="A rule to apply; the output names them. Repeat it. Default: all but `no picture`."),
    ] = None,
) -> None:
    """Remove pictures that are unfit for training, and show how many each rule removed."""
    from pipeline.corpora import csv_labels
    from pipeline.corpora.clean import LABELS, RULES
    from pipeline.corpora.clean import clean as cleaned

    table = _load(source, pictures, corrections)
    if unknown := [name for name in rule or [] if name not in RULES]:
        raise UserError(f"--rule must be one of {', '.join(RULES)}, got {unknown[0]!r}")
    left, removed = cleaned(table, [name for name in RULES if name in (rule or LABELS)])
    console.say(f"{len(table):8,} pictures")
    for name, count in removed.items():
        console.say(f"{-count:8,} {name}")
    console.say(f"{len(left):8,} left")
    if output is not None:
        csv_labels.write(left, output)
        console.say(f"written to {output}")


@app.command()
def plot(
    source: Source,
    output: Annotated[
        Path, typer.Option(dir_okay=False, metavar="FILE.png", help="The picture to write.", show_default=False)
    ],
    pictures: Pictures = None,
    corrections: Corrections = None,
) -> None:
    """Draw the distribution of ages by gender. Labels that are ranges are drawn as ranges."""
    if output.suffix.lower() != ".png":
        raise UserError(f"--output must be a .png, got {output}")
    try:
        from pipeline.evaluation.plots import plot_ages
    except ImportError as error:
        raise missing_package(error) from error

    from pipeline.corpora.clean import LABELS
    from pipeline.corpora.clean import clean as cleaned

    table = _load(source, pictures, corrections)
    drawn, removed = cleaned(table, [name for name in LABELS if name != "no gender"])
    if drawn.empty:
        raise UserError(f"{source} has no picture with an age; give a data set with ages")
    output.parent.mkdir(parents=True, exist_ok=True)
    plot_ages(drawn, output)
    left_out = ", ".join(f"{count:,} {name}" for name, count in removed.items() if count)
    console.say(f"{len(drawn):,} pictures in {output}{f'; left out: {left_out}' if left_out else ''}")


@app.command()
def split(source: Source, output: Csv, pictures: Pictures = None, corrections: Corrections = None) -> None:
    """Write which pictures are for training, validation and test.

    No person and no copy of a picture is on two sides. The split depends only on the pictures and their names.
    """
    try:
        from pipeline.corpora import splits
    except ImportError as error:
        raise missing_package(error) from error

    table = _load(source, pictures, corrections)
    table["split"] = splits.split_faces(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    table[["name", "split"]].rename(columns={"name": "path"}).to_csv(output, index=False, lineterminator="\n")
    sides = table["split"].value_counts()
    console.say(", ".join(f"{name} {sides.get(name, 0):,}" for name in splits.SHARES) + f" in {output}")


@app.command()
def align(
    source: Source,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the chips.", show_default=False)],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of a chip in px.")] = 140,
    padding: Annotated[
        float,
        typer.Option(min=0, max=2, help="Margin on each side, as a share of the face's square from brows to lip."),
    ] = 0.4,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a face.")] = 0.8,
    pictures: Pictures = None,
    corrections: Corrections = None,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Cut face chips out of raw pictures with the profile's face detector. Drop pictures with no face or several.

    OUTPUT/labels.csv lists the chips with their labels. OUTPUT/alignment.csv lists the outcome for every picture.
    The same command resumes an interrupted run. The detector gets pictures fitted into 640 px, unless --set
    faces.input_px changes that.
    """
    from collections import Counter

    from rich.progress import Progress

    from jobs.shared.checks import decide_device
    from pipeline.config import load
    from pipeline.corpora.align import JOURNAL, WRITTEN
    from pipeline.corpora.align import align as cut_chips
    from pipeline.models.loading import Loader
    from pipeline.storage.blobs import fetch
    from pipeline.weights import Registry

    table = _load(source, pictures, corrections)
    knobs = ["faces.input_px=640", *(settings or []), f"faces.min_score={min_score}"]
    chosen = decide_device(load(config or [], knobs, profile))
    detector = Loader(chosen, Registry.of(chosen, fetch)).face_detector(in_pictures=True)
    reasons: Counter[str] = Counter()
    with Progress(console=console.console, transient=True) as bar:
        task = bar.add_task("aligning", total=len(table))
        for outcomes in cut_chips(table, detector, output, size=size, padding=padding):
            reasons.update(outcome.reason for outcome in outcomes)
            bar.advance(task, len(outcomes))
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common() if reason != WRITTEN)
    console.say(
        f"{reasons[WRITTEN]:,} chips of {size} px in {output}; dropped: {dropped or 'none'} ({output / JOURNAL})"
    )


@app.command()
def faces(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Pictures, videos, or folders of them.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder to write images/ and labels/ to.", show_default=False)
    ],
    per_second: Annotated[float, typer.Option(min=0.01, help="Frames per second of video.")] = 1.0,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a person.")] = 0.5,
    min_width: Annotated[float, typer.Option(min=1, help="Least width of a person in px.")] = 48,
    margin: Annotated[float, typer.Option(min=0, help="Margin around a person, as a share of the box.")] = 0.08,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
) -> None:
    """Make training data for a face detector: crops of people with faces labelled by the profile's detectors.

    `rollcall train faces --data OUTPUT` and `rollcall train detector --data OUTPUT --name face` train a detector on it.
    A file that cannot be read is named and left out. OUTPUT gets its folders when all is written.
    """
    from rich.progress import Progress

    from jobs.shared.checks import decide_device
    from pipeline.config import load
    from pipeline.corpora.face_boxes import appearing_whole, write_face_boxes
    from pipeline.corpora.frames import read_named
    from pipeline.models.loading import Loader
    from pipeline.storage.blobs import fetch
    from pipeline.storage.sources import is_known
    from pipeline.weights import Registry

    num_left_out = 0

    def leave_out(error: UserError) -> None:
        nonlocal num_left_out
        num_left_out += 1
        console.say(f"left out: {error}")

    num_pictures = num_crops = num_faces = 0
    with appearing_whole(output) as draft, Progress(console=console.console, transient=True) as bar:
        pictures = read_named(sources, per_second=per_second, is_source=is_known, leave_out=leave_out)
        chosen = decide_device(load(config or [], settings or [], profile))
        loader = Loader(chosen, Registry.of(chosen, fetch))
        task = bar.add_task("cutting out people", total=None)
        for counts in write_face_boxes(
            pictures,
            loader.person_detector(),
            loader.face_detector(),
            draft,
            min_score=min_score,
            min_width_px=min_width,
            margin=margin,
        ):
            num_pictures, num_crops, num_faces = num_pictures + 1, num_crops + counts.crops, num_faces + counts.faces
            bar.update(task, completed=num_pictures, description=f"{num_pictures:,} pictures")
    if not num_pictures:
        raise UserError(f"none of {console.count(num_left_out, 'file')} can be read; repair them, or name others")
    if not num_crops:
        raise UserError(
            f"nobody was found in {console.count(num_pictures, 'picture')} from a score of {min_score:g} and a width "
            f"of {min_width:g} px; lower --min-score or --min-width, or name other pictures"
        )
    left_out = f"; left out: {console.count(num_left_out, 'file')} that cannot be read" if num_left_out else ""
    console.say(f"{num_crops:,} people and {num_faces:,} faces of {num_pictures:,} pictures in {output}{left_out}")


def _load(source: str, pictures: Path | None, corrections: Path | None) -> "pd.DataFrame":
    from pipeline.corpora.loading import load_faces

    return load_faces(source, pictures=pictures, corrected_by=corrections)


if __name__ == "__main__":
    run_command(app)
