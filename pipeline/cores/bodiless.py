"""Faces in the whole frame whose bodies were not detected."""

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, clip, pairwise_intersection
from pipeline.cores.gate import NO_ONE, assign

MIN_SHARE = 0.5
HEAD_TO_SHOULDERS = np.array([-1.0, -0.6, 1.0, 1.4], np.float32)
"""Added to a face box on each side, in face widths and heights: hair above, chest below, shoulders beside."""


def bodiless(
    people: Boxes, person_scores: NDArray[np.floating], faces: Boxes, face_scores: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Return the ascending indices of the (F, 4) `faces` of one frame that belong to none of its (P, 4) `people`.

    A face belongs to a person if it is where the person's head is (gate.assign). It also does if at least half of it
    lies in the box of a person without another face, because people bend.
    """
    owners = assign(people, person_scores, faces, face_scores)
    faceless = np.setdiff1d(np.arange(len(people)), owners)
    shares = pairwise_intersection(people[faceless], faces) / np.maximum(area(faces), 1e-6)
    is_covered = np.round(shares.max(axis=0, initial=0), 3) >= MIN_SHARE
    return np.flatnonzero((owners == NO_ONE) & ~is_covered)


def head_and_shoulders(faces: Boxes, width: int, height: int) -> Boxes:
    """Return guessed upper bodies of (N, 4) `faces`, inside the picture, in steps of 0.1 px: (N, 4)."""
    sizes = faces[:, 2:] - faces[:, :2]
    grown = (faces + np.tile(sizes, 2) * HEAD_TO_SHOULDERS).astype(np.float32)
    return np.round(clip(grown, width, height), 1)
