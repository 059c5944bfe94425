"""Measure tracking: HOTA, CLEAR and identity figures as TrackEval computes them, and B-cubed identity.

As in MOTChallenge (Dendorfer et al., IJCV 2021), result boxes are first matched to all ground truth. Boxes that match a
row that does not count are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.boxes import pairwise_iou
from pipeline.corpora.mot import MotRows

MIN_IOU = 0.5
QUIET = {"PRINT_CONFIG": False}
DIGITS = 4

Figures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The result and the ground truth of one video.

    result: all result rows.
    truth: ground truth, including rows that do not count.
    frames: (F,) int64, rising. Rows of other frames are left out.
    """

    result: MotRows
    truth: MotRows
    frames: NDArray[np.int64]

    @classmethod
    def of_all_frames(cls, result: MotRows, truth: MotRows) -> "Pair":
        """Return a pair that covers the first to the last frame with a row in either."""
        last = max(result.frames.max(initial=0), truth.frames.max(initial=0))
        return cls(result, truth, np.arange(1, last + 1))


def score(pairs: Mapping[str, Pair]) -> dict[str, Figures]:
    """Return the figures of each video by name, and TrackEval's combination of all under `pooled`.

    - hota, deta, assa: means over 19 IoUs (Luiten et al., IJCV 2021)
    - idf1: at IoU .5 (Ristani et al., 2016)
    - mota, id_switches: at IoU .5 (Bernardin and Stiefelhagen, 2008)
    - precision, recall: of boxes at IoU .5
    - b_cubed_precision, b_cubed_recall: of ids on matched boxes. None without any.
    - num_ids_found, num_ids_there, num_frames: counts
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    sequences = {name: _sequence(pair) for name, pair in pairs.items()}
    metrics = (HOTA(), CLEAR(QUIET), Identity(QUIET))
    by_metric = [{name: metric.eval_sequence(video.data) for name, video in sequences.items()} for metric in metrics]
    scores = {name: _figures([values[name] for values in by_metric], video) for name, video in sequences.items()}
    combined = [metric.combine_sequences(values) for metric, values in zip(metrics, by_metric, strict=True)]
    return scores | {"pooled": _figures(combined, _joined(list(sequences.values())))}


def matched(iou: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the best one-to-one matching of (N, M) overlaps of at least MIN_IOU."""
    near = np.where(iou >= MIN_IOU, iou, 0)
    rows, columns = linear_sum_assignment(near, maximize=True)
    hit = near[rows, columns] > 0
    return rows[hit], columns[hit]


def b_cubed(
    result: NDArray[np.int64], truth: NDArray[np.int64], over: NDArray[np.bool_] | None = None
) -> tuple[float, float] | None:
    """Return B-cubed precision and recall of (N,) ids against (N,) true ids, or None without items.

    The precision of an item is the share of the items with its id that have its true id; recall is the reverse. The
    result is the mean over items (Bagga and Baldwin, 1998), or over the items of `over`, (N,) bool. Unlike IDF1 it
    credits every part of a divided person by its size.
    """
    if not len(result) or (over is not None and not over.any()):
        return None
    cells, cell_of, common = np.unique(np.stack([result, truth]), axis=1, return_inverse=True, return_counts=True)
    weights = common if over is None else np.bincount(cell_of[over], minlength=len(common))
    dense = [np.unique(ids, return_inverse=True)[1] for ids in cells]
    precision, recall = (np.average(common / np.bincount(ids, common)[ids], weights=weights) for ids in dense)
    return float(precision), float(recall)


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """One video in TrackEval's terms.

    data: the input of TrackEval's metrics. Ids are dense from 0.
    result, truth: (K,) ids of the K matched boxes.
    """

    data: dict[str, Any]
    result: NDArray[np.int64]
    truth: NDArray[np.int64]
    num_result_ids: int
    num_truth_ids: int
    num_frames: int


def _sequence(pair: Pair) -> _Sequence:
    none = np.zeros(0, np.int64)
    result_ids, truth_ids, overlaps = [], [], []
    matches = [(none, none)]
    for result, truth in zip(_by_frame(pair.result, pair.frames), _by_frame(pair.truth, pair.frames), strict=True):
        iou = pairwise_iou(truth.boxes, result.boxes).astype(np.float64)
        rows, columns = matched(iou)
        right = truth.counts[rows]
        stays = np.ones(len(result), np.bool_)
        stays[columns[~right]] = False
        matches.append((result.ids[columns[right]], truth.ids[rows[right]]))
        result_ids.append(result.ids[stays])
        truth_ids.append(truth.ids[truth.counts])
        overlaps.append(iou[truth.counts][:, stays])
    result_names, truth_names = (np.unique(np.concatenate([none, *ids])) for ids in (result_ids, truth_ids))
    result_dense = [np.searchsorted(result_names, ids) for ids in result_ids]
    truth_dense = [np.searchsorted(truth_names, ids) for ids in truth_ids]
    data = {
        "num_timesteps": len(pair.frames),
        "num_gt_ids": len(truth_names),
        "num_tracker_ids": len(result_names),
        "num_gt_dets": sum(map(len, truth_ids)),
        "num_tracker_dets": sum(map(len, result_ids)),
        "gt_ids": truth_dense,
        "tracker_ids": result_dense,
        "similarity_scores": overlaps,
    }
    result, truth = (np.concatenate(ids) for ids in zip(*matches, strict=True))
    return _Sequence(
        data,
        np.searchsorted(result_names, result),
        np.searchsorted(truth_names, truth),
        len(result_names),
        len(truth_names),
        len(pair.frames),
    )


def _by_frame(rows: MotRows, frames: NDArray[np.int64]) -> list[MotRows]:
    """Return the rows of each of `frames`."""
    ordered = rows[np.argsort(rows.frames, kind="stable")]
    starts, ends = (np.searchsorted(ordered.frames, frames, side=side) for side in ("left", "right"))
    return [ordered[np.arange(start, end)] for start, end in zip(starts, ends, strict=True)]


def _joined(sequences: list[_Sequence]) -> _Sequence:
    """Return the matches of all videos, with ids that are unique over videos."""
    first_result = np.cumsum([0, *(video.num_result_ids for video in sequences)])
    first_truth = np.cumsum([0, *(video.num_truth_ids for video in sequences)])
    result = [video.result + first for video, first in zip(sequences, first_result, strict=False)]
    truth = [video.truth + first for video, first in zip(sequences, first_truth, strict=False)]
    num_frames = sum(video.num_frames for video in sequences)
    return _Sequence(
        {}, np.concatenate(result), np.concatenate(truth), int(first_result[-1]), int(first_truth[-1]), num_frames
    )


def _figures(results: list[dict[str, Any]], sequence: _Sequence) -> Figures:
    hota, clear, identity = results
    cubed = b_cubed(sequence.result, sequence.truth)
    shares = {
        "hota": np.mean(hota["HOTA"]),
        "deta": np.mean(hota["DetA"]),
        "assa": np.mean(hota["AssA"]),
        "idf1": identity["IDF1"],
        "mota": clear["MOTA"],
        "precision": clear["CLR_Pr"],
        "recall": clear["CLR_Re"],
    }
    figures: Figures = {name: round(float(value), DIGITS) for name, value in shares.items()}
    figures |= {"b_cubed_precision": None, "b_cubed_recall": None}
    if cubed:
        figures |= {"b_cubed_precision": round(cubed[0], DIGITS), "b_cubed_recall": round(cubed[1], DIGITS)}
    return figures | {
        "id_switches": int(clear["IDSW"]),
        "num_ids_found": sequence.num_result_ids,
        "num_ids_there": sequence.num_truth_ids,
        "num_frames": sequence.num_frames,
    }
