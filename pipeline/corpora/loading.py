"""Load the table of labelled faces of any known corpus from its path."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from pipeline.corpora import adience, corrections, csv_labels, faces, fgnet, imdb_wiki, utkface
from pipeline.errors import UserError, absent

LOADERS: Mapping[str, Callable[[Path, Path | None], pd.DataFrame]] = {
    "utkface": lambda source, pictures: utkface.load(source),
    "fgnet": fgnet.load,
    "adience": adience.load,
    "imdb-wiki": imdb_wiki.load,
    "csv": csv_labels.load,
}


def load_faces(
    source: Path | str, *, pictures: Path | str | None = None, corrected_by: Path | str | None = None
) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of a corpus: a UTKFace or FG-NET folder, Adience folds, a .mat file or a CSV.

    pictures: the folder of the pictures, if it is not beside the labels.
    corrected_by: a CSV of corrections (`pipeline.corpora.corrections`), applied before any cleaning.

    Raises UserError if the corpus cannot be read.
    """
    path = Path(source)
    table = LOADERS[form_of(path)](path, None if pictures is None else faces.folder(pictures))
    return table if corrected_by is None else corrections.apply(table, corrected_by)


def form_of(source: Path) -> str:
    """Return the key of LOADERS that reads `source`. Raises UserError if none does."""
    if source.is_file():
        suffix = source.suffix.lower()
        if suffix == ".csv":
            return "fgnet" if fgnet.PATH_COLUMN in faces.read_rows(source, ()) else "csv"
        if suffix in (".mat", ".txt"):
            return {".mat": "imdb-wiki", ".txt": "adience"}[suffix]
    if not source.is_dir():
        raise absent(source, "data set", "name a folder of pictures, a .csv, a .mat, or Adience's folds")
    if any(source.glob(adience.FOLDS)):
        return "adience"
    names = [Path(name).name for name in faces.pictures(source)]
    for form, is_its_name in (("utkface", utkface.is_name), ("fgnet", fgnet.is_name)):
        if 2 * sum(map(is_its_name, names)) > len(names):
            return form
    raise UserError(
        f"the pictures in {source} are named neither as UTKFace's, 25_1_0_20170116.jpg (age, gender 0 male or 1 "
        "female, race, date), nor as FG-NET's, 001A02.JPG; name a CSV with the columns path, age, gender"
    )
