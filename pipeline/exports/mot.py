"""Exports of published tables to other formats. Each file appears only when it is complete."""

import numpy as np

from pipeline.storage.store import Store
from pipeline.storage.tables import row_groups

MOT_TAIL = "-1,-1,-1"
"""The three world coordinates of a MOT line, which are unknown."""


def write_mot(store: Store, video_id: str, name: str, ids: str) -> None:
    """Write the boxes of a published video as MOT text: frame,id,left,top,width,height,confidence,-1,-1,-1.

    ids: the column whose values become the ids.

    Frames are counted from 1, pixels from 0. The confidence of an interpolated box is -1.
    """
    with row_groups(store, f"detections/{video_id}.parquet") as groups, store.writing(name) as file:
        for group in groups:
            boxes = [group[column].to_numpy() for column in ("bb_xmin", "bb_ymin", "bb_width", "bb_height")]
            scores = [-1 if score is None else round(score, 3) for score in group["score"].to_pylist()]
            whole = [group[column].to_pylist() for column in ("frame_num", ids)]
            rows = zip(*whole, *np.round(boxes, 1).tolist(), scores, strict=True)
            file.write("".join(f"{','.join(map(str, row))},{MOT_TAIL}\n" for row in rows).encode())
