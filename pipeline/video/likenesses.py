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
    by_kind = [likenesses[kind] for kind in kinds]
    columns: dict[str, Any] = {"video_id": [video_id] * len(kinds), "kind": kinds}
    columns |= {"space": [spaces[kind] for kind in kinds], "share": [likeness.share for likeness in by_kind]}
    for side in ("same", "other"):
        stats: list[DistanceStats] = [getattr(likeness, side) for likeness in by_kind]
        columns |= {f"{side}_mean": [distances.mean for distances in stats]}
        columns |= {f"{side}_std": [distances.std for distances in stats]}
        columns |= {f"num_{side}": [distances.count for distances in stats]}
    return make_table(rows.DATASETS["likenesses"], columns)


def read_likenesses(table: pa.Table) -> Likenesses:
    """Return the calibrated similarities that `likeness_table` wrote. Embeddings of a kind without a row are never
    compared."""
    stored = {
        row["kind"]: Likeness(
            DistanceStats(row["same_mean"], row["same_std"], row["num_same"]),
            DistanceStats(row["other_mean"], row["other_std"], row["num_other"]),
            row["share"],
        )
        for row in table.to_pylist()
    }
    return {**WIDE, **stored}
