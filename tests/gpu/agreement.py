"""How well the tables of two runs over the same videos agree: boxes, identities and ages."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.boxes import pairwise_iou
from pipeline.corpora.mot import MotRows
from pipeline.evaluation.detector import average_precision, match
from pipeline.evaluation.tracking import Pair, matched, score

SURE = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a run has of another one, which counts as the truth.

    ap50: average precision at IoU .5 of detections, against those of the other run with a score of at least SURE.
    idf1: of persons, over the boxes of all frames.
    num_ages: number of faces with an age in both.
    years: differences of their ages: the median, and the one that nine of ten are below.
    """

    ap50: float
    idf1: float
    num_ages: int
    years: tuple[float, float]


def agreement(
    one: tuple[pd.DataFrame, pd.DataFrame], other: tuple[pd.DataFrame, pd.DataFrame], videos: list[str]
) -> Agreement:
    """Compare two runs. Each is the rows of `detections` and of `faces`."""
    matches, pairs, years = [], {}, []
    for video in videos:
        (people, faces), (true_people, true_faces) = (
            tuple(rows[rows.video_id == video] for rows in tables) for tables in (one, other)
        )
        pairs[video] = Pair.of_all_frames(_rows(people), _rows(true_people))
        seen, truly_seen = (rows[~rows.interpolated.astype(bool)] for rows in (people, true_people))
        truly_seen = truly_seen[truly_seen.score >= SURE]
        for frame in sorted({*seen.frame_num, *truly_seen.frame_num}):
            rows = seen[seen.frame_num == frame].sort_values("score", ascending=False)
            found = Detections(_boxes(rows), rows.score.to_numpy(np.float32))
            matches.append(match(found, _boxes(truly_seen[truly_seen.frame_num == frame])))
        aged, truly_aged = (rows[rows.age.notna()] for rows in (faces, true_faces))
        for frame in sorted({*aged.frame_num} & {*truly_aged.frame_num}):
            here, there = (rows[rows.frame_num == frame] for rows in (aged, truly_aged))
            left, right = matched(pairwise_iou(_boxes(here), _boxes(there)))
            years += np.abs(here.age.to_numpy()[left] - there.age.to_numpy()[right]).tolist()
    idf1 = score(pairs)["pooled"]["idf1"]
    assert isinstance(idf1, float)
    spread = (float(np.median(years)), float(np.quantile(years, 0.9))) if years else (0.0, 0.0)
    return Agreement(float(average_precision(matches)[0]), idf1, len(years), spread)


def _rows(people: pd.DataFrame) -> MotRows:
    frames, ids = (people[name].to_numpy(np.int64) for name in ("frame_num", "person_id"))
    return MotRows(frames, ids, _boxes(people), np.ones(len(people), np.bool_))


def _boxes(rows: pd.DataFrame) -> NDArray[np.float32]:
    left, top, height, width = rows[["bb_xmin", "bb_ymin", "bb_height", "bb_width"]].to_numpy(np.float32).T
    return np.stack([left, top, left + width, top + height], axis=1)
