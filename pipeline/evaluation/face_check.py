"""Measure a quick face check: how many crops without a face it lets through if nearly none with a face is lost."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Detections, Faces
from pipeline.evaluation.detector import average_precision, match

RECALL = 0.99


def figures_of(found: Sequence[Faces], labels: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Return the figures of a check on crops with (N, 4) labelled faces each.

    ap50: average precision of the boxes at IoU .5.
    threshold: the score that RECALL of the crops with a face reach.
    passed: share of the crops without a face that reach it.
    """
    matches = [match(Detections(faces.boxes, faces.scores), boxes) for faces, boxes in zip(found, labels, strict=True)]
    scores = np.array([faces.scores.max(initial=0) for faces in found])
    shows = np.array([len(boxes) > 0 for boxes in labels])
    threshold = np.quantile(scores[shows], 1 - RECALL, method="lower") if shows.any() else 0.0
    passed = float((scores[~shows] >= threshold).mean()) if (~shows).any() else 0.0
    return {"ap50": float(average_precision(matches)[0]), "threshold": float(threshold), "passed": passed}
