"""IMDB-WIKI: `imdb.mat` and `wiki.mat` (https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki).

Each file holds one struct, imdb or wiki, whose fields have one entry per picture:

- dob: MATLAB's serial day of birth
- photo_taken: year of the photo
- full_path: path below the archive's folder
- gender: 0 female, 1 male, NaN unknown
- name: name of the person
- face_score: -Inf if no face was found
- second_face_score: NaN if there is no second face

Licence: non-commercial research only.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from pipeline.corpora import faces
from pipeline.errors import UserError, absent

GENDERS = {0.0: "F", 1.0: "M"}
SOURCES = {"imdb": "IMDB", "wiki": "WIKI"}
FIELDS = ("dob", "photo_taken", "full_path", "gender", "name", "face_score", "second_face_score")

_FIRST_OF_YEAR_1 = 367  # MATLAB's serial number of 1 January of the year 1


def load(path: Path | str, pictures: Path | None = None) -> pd.DataFrame:
    """Return the table (`faces.COLUMNS`) of a .mat file, plus the columns face_score and second_face_score.

    The age is the year of the photo minus the year of birth, even where that is impossible; `clean` removes such rows.
    The function does not check that the pictures exist.

    pictures: the archive's folder. The default is the folder of the file.

    Raises UserError if the file cannot be read.
    """
    file = Path(path)
    kind, entries = _read(file)
    born = _years(np.asarray(entries["dob"], np.float64))
    gender = np.asarray(entries["gender"], np.float64)
    names = [str(name) if isinstance(name, str) and name else None for name in np.atleast_1d(entries["name"]).tolist()]
    table = faces.table(
        pictures or file.parent,
        [str(name) for name in np.atleast_1d(entries["full_path"]).tolist()],
        age=np.asarray(entries["photo_taken"], np.float64) - born,
        gender=[GENDERS.get(number) for number in gender.tolist()],
        person=names,
        source=SOURCES[kind],
    )
    for field in ("face_score", "second_face_score"):
        table[field] = np.asarray(entries[field], np.float64)
    return table


def _read(file: Path) -> tuple[str, dict[str, NDArray]]:
    """Return the key of SOURCES that the file holds, and its fields as arrays of length N."""
    if not file.is_file():
        raise absent(file)
    try:
        contents = scipy.io.loadmat(file, squeeze_me=True)
    # scipy raises NotImplementedError for files of MATLAB 7.3, which are HDF5.
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise UserError(
            f"{file} cannot be read as a MATLAB file of version 5 to 7.2 ({error}); download it again"
        ) from error
    kind = next((name for name in SOURCES if name in contents), None)
    if kind is None:
        raise UserError(f"{file} must hold a struct named imdb or wiki; name the imdb.mat or wiki.mat of the archive")
    struct = contents[kind]
    missing = [field for field in FIELDS if field not in (struct.dtype.names or ())]
    if missing:
        raise UserError(f"{file} must have the fields {', '.join(FIELDS)}; there is no {', '.join(missing)}")
    return kind, {field: np.atleast_1d(struct[field].item()) for field in FIELDS}


def _years(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N,) years of MATLAB's serial days, NaN where there is none."""
    since = np.where(np.isnan(days), 0, days).astype(np.int64) - _FIRST_OF_YEAR_1
    dates = np.datetime64("0001-01-01") + since.astype("timedelta64[D]")
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    return np.where(np.isnan(days), np.nan, years)
