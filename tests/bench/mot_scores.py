"""Scores of tracking against a MOT ground truth, by TrackEval's own HOTA, CLEAR and Identity.

Rows are MOT's: frame (from 1), id, left, top, width, height, confidence, … Ground truth rows whose seventh column is 0
are left out, as TrackEval does for MOT15: a box of ours on one of them counts as a false one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trackeval.metrics import CLEAR, HOTA, Identity

from pipeline.boxes import pairwise_iou

QUIET = {"PRINT_CONFIG": False}


@dataclass(frozen=True, slots=True)
class MotRows:
    """R boxes. frames: (R,) int64 from 1. ids: (R,) int64. boxes: (R, 4) float32 xyxy px."""

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]


def read_mot(path: Path) -> MotRows:
    """The rows of a MOT text file that count."""
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    table = table[table[:, 6] != 0]
    left_top, size = table[:, 2:4], table[:, 4:6]
    boxes = np.concatenate([left_top, left_top + size], axis=1).astype(np.float32)
    return MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes)


def mot_scores(pairs: Mapping[str, tuple[MotRows, MotRows]]) -> dict[str, dict[str, float]]:
    """Score (found, truth) by video name; the key `pooled` holds TrackEval's combination of all.

    Of each: hota, deta, assa, idf1, mota, id_switches, precision and recall at IoU .5, ids found and ids there.
    """
    metrics = {"hota": HOTA(), "clear": CLEAR(QUIET), "identity": Identity(QUIET)}
    sequences = {name: _sequence(found, truth) for name, (found, truth) in pairs.items()}
    results = {
        key: {name: metric.eval_sequence(sequence) for name, sequence in sequences.items()}
        for key, metric in metrics.items()
    }
    scores = {
        name: _figures(*(results[key][name] for key in metrics))
        | {"ids_found": sequences[name]["num_tracker_ids"], "ids_there": sequences[name]["num_gt_ids"]}
        for name in pairs
    }
    scores["pooled"] = _figures(*(metric.combine_sequences(results[key]) for key, metric in metrics.items())) | {
        key: sum(scores[name][key] for name in pairs) for key in ("ids_found", "ids_there")
    }
    return scores


def _figures(hota: dict, clear: dict, identity: dict) -> dict[str, float]:
    return {
        "hota": float(np.mean(hota["HOTA"])),
        "deta": float(np.mean(hota["DetA"])),
        "assa": float(np.mean(hota["AssA"])),
        "idf1": float(identity["IDF1"]),
        "mota": float(clear["MOTA"]),
        "id_switches": int(clear["IDSW"]),
        "precision": float(clear["CLR_Pr"]),
        "recall": float(clear["CLR_Re"]),
    }


def _sequence(found: MotRows, truth: MotRows) -> dict:
    """What TrackEval's metrics take: per frame dense ids and IoUs."""
    num_frames = int(max(found.frames.max(initial=0), truth.frames.max(initial=0)))
    found_names, found_ids = np.unique(found.ids, return_inverse=True)
    truth_names, truth_ids = np.unique(truth.ids, return_inverse=True)
    here = [(found.frames == frame, truth.frames == frame) for frame in range(1, num_frames + 1)]
    return {
        "num_timesteps": num_frames,
        "num_gt_ids": len(truth_names),
        "num_tracker_ids": len(found_names),
        "num_gt_dets": len(truth.frames),
        "num_tracker_dets": len(found.frames),
        "gt_ids": [truth_ids[t] for _, t in here],
        "tracker_ids": [found_ids[f] for f, _ in here],
        "similarity_scores": [pairwise_iou(truth.boxes[t], found.boxes[f]).astype(np.float64) for f, t in here],
    }
