"""The order in which labels are reviewed: ages 0 to 20 first, and the least certain first within each part."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UserError, absent

YOUNG = 20
"""Labels up to this age, in years, come first: a year matters most there, and most wrong labels were found there."""
COPY_YEARS = 5
"""Two copies of one picture contradict each other if their ages are farther apart than this."""
PREDICTED = ("path", "predicted_age", "age_low", "age_high", "female_prob")

_Z_80 = 1.2815515655446004  # standard deviations from the mean of a normal distribution to the ends of its central 80 %


def order(table: pd.DataFrame, certainty: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the (N,) rows of `table` in the order of review. Ties go by name; rows of unknown (NaN) certainty come
    last."""
    is_older = ~(table["age_low"] <= YOUNG).to_numpy()
    names = np.argsort(np.argsort(table["name"].to_numpy(str)))
    return np.lexsort([names, np.where(np.isnan(certainty), 2.0, certainty), is_older])


def certainty(table: pd.DataFrame, predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return how well predictions support each label: (N,) in 0..1, NaN where there is no prediction.

    The certainty is the smaller of two probabilities:

    - the two-sided probability that a prediction with this 80 % interval is off by at least as much. Each half of the
      interval is read as half of a normal distribution. For a range, the distance to its nearer end counts.
    - the predicted probability of the labelled gender

    An unknown label has certainty 0.

    predictions: a table with the columns PREDICTED, one row per picture, NaN where there is no prediction.
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
    """Return (N,) bool: True where a copy of the picture has another gender, or an age more than COPY_YEARS away.

    groups: (N,) groups of copies (`splits.groups`).
    """
    by_group = table.groupby(np.asarray(groups))
    years = by_group["age"].transform("max") - by_group["age"].transform("min")
    return ((years > COPY_YEARS) | (by_group["gender"].transform("nunique") > 1)).to_numpy()


def read_predictions(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns PREDICTED for each row of `table`, from a file that `rollcall evaluate attributes` wrote.

    Rows without a prediction are NaN. If the file holds several estimators, the first one counts. Rows of shrunk copies
    are ignored. Raises UserError.
    """
    try:
        predictions = pd.read_csv(path, dtype={"path": str})
    except FileNotFoundError:
        raise absent(path, "file of predictions") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"the predictions {path} cannot be read ({error}); `rollcall evaluate attributes` writes them"
        ) from error
    if missing := [name for name in PREDICTED if name not in predictions]:
        raise UserError(f"{path} must have the columns {', '.join(PREDICTED)}; there is no {', '.join(missing)}")
    if "copy_px" in predictions:
        predictions = predictions[predictions["copy_px"] == 0]
    by_path = predictions.drop_duplicates("path").set_index("path")[list(PREDICTED[1:])]
    by_path = by_path.set_index(pd.Index([str(Path(name).resolve()) for name in by_path.index]))
    by_path = by_path[~by_path.index.duplicated()]
    matched = by_path.reindex([str(Path(name).resolve()) for name in table["path"]]).reset_index(names="path")
    if len(table) and matched["predicted_age"].isna().all():
        raise UserError(f"{path} has no prediction for any picture of this data set; name the file of its evaluation")
    return matched
