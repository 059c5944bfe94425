"""Split a run's faces once and keep the split."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from jobs.cli.console import say
from pipeline.corpora import splits
from pipeline.errors import UserError

FILE = "split.csv"


def split_of(faces: pd.DataFrame, folder: Path, shares: Mapping[str, float] = splits.SHARES) -> pd.Series:
    """Return the side of each face by pipeline.corpora.splits. `folder` keeps the split, because a resumed run needs
    the same."""
    path = folder / FILE
    if not path.exists():
        say("searching for copies of pictures; they decide the split")
        sides = faces.assign(side=splits.split_faces(faces, shares))[["name", "side"]]
        folder.mkdir(parents=True, exist_ok=True)
        sides.to_csv(path, index=False)
    kept = pd.read_csv(path, dtype=str).set_index("name")["side"]
    if set(kept.index) != set(faces["name"]):
        raise UserError(f"{path} holds the split of other pictures; give another --output or the same --data")
    return faces["name"].map(kept)
