"""Faces found in the whole frame of people whose bodies were not."""

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, clip, pairwise_intersection
from pipeline.cores.gate import NO_ONE, assign

MIN_SHARE = 0.5
HEAD_TO_SHOULDERS = np.array([-1.0, -0.6, 1.0, 1.4], np.float32)
"""What is added to a face box on each side, in face widths and heights: hair above, chest below, shoulders beside."""


def bodiless(
    people: Boxes, person_scores: NDArray[np.floating], faces: Boxes, face_scores: NDArray[np.floating]
) -> NDArray[np.int64]:
    """The indices, ascending, of the (F, 4) `faces` of one frame that belong to none of its (P, 4) `people`.

    A face is someone's if it is where that person's head is (gate.assign), or if it lies by half or more in the box of
    a person
    whose face was not found elsewhere: people bend.
    """
    owners = assign(people, person_scores, faces, face_scores)
    faceless = np.setdiff1d(np.arange(len(people)), owners)
    shares = pairwise_intersection(people[faceless], faces) / np.maximum(area(faces), 1e-6)
    is_covered = np.round(shares.max(axis=0, initial=0), 3) >= MIN_SHARE
    return np.flatnonzero((owners == NO_ONE) & ~is_covered)


def head_and_shoulders(faces: Boxes, width: int, height: int) -> Boxes:
    """A guess at the upper bodies under (N, 4) `faces`, inside the picture, in steps of 0.1 px: (N, 4)."""
    sizes = faces[:, 2:] - faces[:, :2]
    grown = (faces + np.tile(sizes, 2) * HEAD_TO_SHOULDERS).astype(np.float32)
    return np.round(clip(grown, width, height), 1)
