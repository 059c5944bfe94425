"""The published rows of a video's calibrated similarity, written and read."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.columns import make_table
from pipeline.cores.likeness import WIDE, DistanceStats, Likeness, Likenesses


def likeness_table(video_id: str, likenesses: Likenesses, spaces: Mapping[str, str]) -> pa.Table:
    """Return the rows of `likenesses`, one for each kind of embedding for which the video has a space."""
    kinds = sorted(spaces)
    own = [likenesses[kind] for kind in kinds]
    columns: dict[str, Any] = {"video_id": [video_id] * len(kinds), "kind": kinds}
    columns |= {"space": [spaces[kind] for kind in kinds], "share": [one.share for one in own]}
    for side in ("same", "other"):
        spreads: list[DistanceStats] = [getattr(one, side) for one in own]
        columns |= {f"{side}_mean": [spread.mean for spread in spreads]}
        columns |= {f"{side}_std": [spread.std for spread in spreads]}
        columns |= {f"num_{side}": [spread.count for spread in spreads]}
    return make_table(rows.DATASETS["likenesses"], columns)


def read_likenesses(table: pa.Table) -> Likenesses:
    """Return the calibrated similarities that `likeness_table` wrote. Embeddings of a kind without a row are never
    compared."""
    found = {
        row["kind"]: Likeness(
            DistanceStats(row["same_mean"], row["same_std"], row["num_same"]),
            DistanceStats(row["other_mean"], row["other_std"], row["num_other"]),
            row["share"],
        )
        for row in table.to_pylist()
    }
    return {**WIDE, **found}
