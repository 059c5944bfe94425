"""Number tracklets and persons from 1, in order of first appearance.

Within one frame the order is from left to right, then from top to bottom. Shots follow one another in time, so a
shot's number is its index plus one.
"""

import numpy as np
from numpy.typing import NDArray


def number_tracklets(first_frames: NDArray[np.int64], first_boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the number of each of N tracklets, 1..N.

    first_frames: (N,) frame of the tracklet's first row, including filled and held rows.
    first_boxes: (N, 4) xyxy px of that row, as published (clipped to the picture).
    """
    left, top, right, bottom = first_boxes.T
    numbers = np.empty(len(first_frames), np.int64)
    numbers[np.lexsort((bottom, right, top, left, first_frames))] = np.arange(1, len(first_frames) + 1)
    return numbers


def number_persons(tracklet_ids: NDArray[np.int64], persons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the person of each of N tracklets. Persons count in the order of their first tracklet.

    tracklet_ids: (N,) from `number_tracklets`.
    persons: (N,) labels. Tracklets with the same label are the same person.
    """
    _, person_index = np.unique(persons, return_inverse=True)
    first_ids = np.full(person_index.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_ids, person_index, tracklet_ids)
    numbers = np.empty(len(first_ids), np.int64)
    numbers[np.argsort(first_ids)] = np.arange(1, len(first_ids) + 1)
    return numbers[person_index]
