"""Measure a detector: average precision, and precision and recall at a working threshold.

A detection is correct if it overlaps a labelled box with an IoU of at least .5 (for `ap`, .5 to .95). Each label counts
once, for the detection with the best score.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.boxes import pairwise_iou

IOUS = np.arange(0.5, 1.0, 0.05)
"""The thresholds of COCO."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The detections of one picture, compared with its labels.

    right: (N, 10) bool. Detection n matches a label at each of IOUS. Rows by falling score.
    scores: (N,).
    num_labels: number of labels.
    """

    right: NDArray[np.bool_]
    scores: NDArray[np.float32]
    num_labels: int


def match(detections: Detections, labels: NDArray[np.float32], ignored: NDArray[np.float32] | None = None) -> Matches:
    """Compare detections with (M, 4) labels. A false detection that overlaps an `ignored` box by .5 is left out."""
    overlap = pairwise_iou(detections.boxes, labels)
    right = np.zeros((len(detections), len(IOUS)), bool)
    for column, iou in enumerate(IOUS):
        free = np.ones(len(labels), bool)
        for row in range(len(detections)):
            candidates = np.where(free, overlap[row], 0)
            best = int(candidates.argmax()) if len(labels) else 0
            if len(labels) and candidates[best] >= iou:
                right[row, column], free[best] = True, False
    keep = np.ones(len(detections), bool)
    if ignored is not None and len(ignored) and len(detections):
        keep = right[:, 0] | (pairwise_iou(detections.boxes, ignored).max(1) < IOUS[0])
    return Matches(right[keep], detections.scores[keep], len(labels))


def average_precision(matches: Sequence[Matches]) -> NDArray[np.float64]:
    """Return (10,) average precision at IOUS over pictures, as Ultralytics computes it. It is 0 without detections."""
    from ultralytics.utils.metrics import ap_per_class

    right = np.vstack([match.right for match in matches])
    num_labels = sum(match.num_labels for match in matches)
    if not len(right) or not num_labels:
        return np.zeros(len(IOUS))
    scores = np.concatenate([match.scores for match in matches])
    per_class = ap_per_class(right, scores, np.zeros(len(right)), np.zeros(num_labels))[5]
    return np.asarray(per_class[0], np.float64)


def precision_recall(matches: Sequence[Matches], threshold: float) -> tuple[float, float]:
    """Return precision and recall at IoU .5 for scores from `threshold` on. Without detections the precision is 1."""
    right = sum(int(match.right[match.scores >= threshold, 0].sum()) for match in matches)
    num_detections = sum(int((match.scores >= threshold).sum()) for match in matches)
    labels = sum(match.num_labels for match in matches)
    return right / num_detections if num_detections else 1.0, right / labels if labels else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Return average precision at IoU .5 and over .5 to .95, and precision and recall at the threshold and IoU .5."""

    ap50: float
    ap: float
    precision: float
    recall: float


def figures(matches: Sequence[Matches], threshold: float) -> Figures:
    """Return all figures of some pictures, rounded to four digits."""
    ap = average_precision(matches)
    precision, recall = precision_recall(matches, threshold)
    return Figures(*(round(float(figure), 4) for figure in (ap[0], ap.mean(), precision, recall)))


def curve(matches: Sequence[Matches]) -> list[dict[str, float]]:
    """Return precision and recall at every threshold from .05 to .95."""
    rows = []
    for threshold in np.arange(0.05, 0.96, 0.05).round(2).tolist():
        precision, recall = precision_recall(matches, threshold)
        rows.append({"threshold": threshold, "precision": round(precision, 4), "recall": round(recall, 4)})
    return rows


def intervals(
    matches: Sequence[Matches], threshold: float, *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile bootstraps over pictures (Efron 1979). They are too narrow for frames of one video."""
    rng = np.random.default_rng(seed)
    drawn = [
        asdict(figures([matches[index] for index in rng.integers(0, len(matches), len(matches))], threshold))
        for _ in range(resamples)
    ]
    ends = {name: np.quantile([sample[name] for sample in drawn], (0.025, 0.975)) for name in drawn[0]}
    return {name: (round(float(low), 4), round(float(high), 4)) for name, (low, high) in ends.items()}
