"""Which labels to look at first: ages 0 to 20 before all others, and within each the least certain first."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UserError

YOUNG = 20
"""Labels of up to so many years come first: there a year weighs most, and most labels are wrong (seed data sets)."""
COPY_YEARS = 5
"""Copies of one picture whose ages lie farther apart contradict each other."""
PREDICTED = ("path", "predicted_age", "age_low", "age_high", "female_prob")

_Z_80 = 1.2815515655446004  # standard deviations from the middle of a normal distribution to the end of its middle 80 %


def order(table: pd.DataFrame, certainty: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) rows of `table` in the order of review; equals by name, and rows of unknown (NaN) certainty last."""
    is_older = ~(table["age_low"] <= YOUNG).to_numpy()
    names = np.argsort(np.argsort(table["name"].to_numpy(str)))
    return np.lexsort([names, np.where(np.isnan(certainty), 2.0, certainty), is_older])


def certainty(table: pd.DataFrame, predictions: pd.DataFrame) -> NDArray[np.float64]:
    """How far predictions bear each label out: (N,) in 0..1, NaN where there is no prediction.

    It is the lesser of two: the chance that a prediction with this 80 % interval misses the age by as much as it does
    (two-sided, the halves of the interval read as those of a normal distribution; a label that is a range is missed
    from its nearer end), and the probability of the label's gender. A label that is not known is borne out by nothing.

    predictions: PREDICTED, one row for each of the N pictures, NaN where there is none.
    """
    predicted = predictions["predicted_age"].to_numpy(np.float64)
    nearest = np.clip(predicted, table["age_low"].to_numpy(np.float64), table["age_high"].to_numpy(np.float64))
    ends = np.where(nearest > predicted, predictions["age_high"], predictions["age_low"]).astype(np.float64)
    spreads = np.maximum(np.abs(ends - predicted) / _Z_80, 0.5)
    age_probs = np.array([math.erfc(z / math.sqrt(2)) for z in np.abs(nearest - predicted) / spreads])
    female = predictions["female_prob"].to_numpy(np.float64)
    gender_probs = np.select([table["gender"] == "F", table["gender"] == "M"], [female, 1 - female], 0.0)
    age_probs = np.where(table["age_low"].isna(), 0.0, age_probs)
    return np.where(np.isnan(predicted), np.nan, np.fmin(age_probs, gender_probs))


def contradicted(table: pd.DataFrame, groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether a copy of the picture has another gender, or an age that is more than COPY_YEARS away.

    groups: (N,) which pictures are copies of one another (`splits.groups`).
    """
    by_group = table.groupby(np.asarray(groups))
    years = by_group["age"].transform("max") - by_group["age"].transform("min")
    return ((years > COPY_YEARS) | (by_group["gender"].transform("nunique") > 1)).to_numpy()


def read_predictions(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """PREDICTED for each row of `table`, from a file that `rollcall evaluate attributes` wrote; NaN where it has none.

    Of several estimators the first counts; figures of shrunk copies are passed over. Raises UserError.
    """
    try:
        found = pd.read_csv(path, dtype={"path": str})
    except (OSError, ValueError) as error:
        raise UserError(f"the predictions {path} cannot be read ({error})") from error
    if missing := [name for name in PREDICTED if name not in found]:
        raise UserError(f"{path} must have the columns {', '.join(PREDICTED)}; there is no {', '.join(missing)}")
    if "copy_px" in found:
        found = found[found["copy_px"] == 0]
    by_path = found.drop_duplicates("path").set_index("path")[list(PREDICTED[1:])]
    by_path = by_path.set_index(pd.Index([str(Path(name).resolve()) for name in by_path.index]))
    by_path = by_path[~by_path.index.duplicated()]
    matched = by_path.reindex([str(Path(name).resolve()) for name in table["path"]]).reset_index(names="path")
    if len(table) and matched["predicted_age"].isna().all():
        raise UserError(f"{path} has no prediction for any picture of this data set; name the file of its evaluation")
    return matched
