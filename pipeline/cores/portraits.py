"""Choose the moment that shows a person best, by what the tables say: the face that weighs most, else the body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import area, at_edges

BORDER_PX = 1.0
"""A box within this distance of the border of the picture is cut off there."""
CUT_OFF = 0.25
"""A body that the border cuts off counts as so much of its area."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """The moment that shows a person best.

    frame: from 1.
    body: (4,) float64 xyxy px.
    face: (4,) float64 xyxy px, or None without a judged face.
    """

    person_id: int
    frame: int
    time_s: float
    body: NDArray[np.float64]
    face: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Bodies:
    """N detected boxes. frames, persons: (N,) int64. times_s, scores: (N,) float64. boxes: (N, 4) float64 xyxy px."""

    frames: NDArray[np.int64]
    persons: NDArray[np.int64]
    times_s: NDArray[np.float64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JudgedFaces:
    """F judged faces. frames, persons: (F,) int64. qualities: (F,) float64. boxes: (F, 4) float64 xyxy px."""

    frames: NDArray[np.int64]
    persons: NDArray[np.int64]
    qualities: NDArray[np.float64]
    boxes: NDArray[np.float64]


def choose_portraits(bodies: Bodies, faces: JudgedFaces, size: tuple[int, int]) -> list[Portrait]:
    """Return the portrait of each person, by person_id.

    The face with the highest quality wins, the larger one of two equals, and then the earlier one. A person without a
    judged face is shown where the body is large, whole and certain. Faces of frames without a body of the person are
    left out.

    size: width and height of the picture in px.
    """
    first_of = {key: row for row, key in reversed([*enumerate(_keys(bodies.persons, bodies.frames))])}
    best_face: dict[int, tuple[tuple[float, float, int], int]] = {}
    for row, key in enumerate(_keys(faces.persons, faces.frames)):
        rank = (float(faces.qualities[row]), float(area(faces.boxes[row : row + 1])[0]), -key[1])
        if key in first_of and (key[0] not in best_face or rank > best_face[key[0]][0]):
            best_face[key[0]] = (rank, row)
    is_cut = at_edges(bodies.boxes, *size, BORDER_PX).any(axis=1)
    worth = bodies.scores * area(bodies.boxes) * np.where(is_cut, CUT_OFF, 1)
    order = np.lexsort((bodies.frames, -worth, bodies.persons))
    persons, starts = np.unique(bodies.persons[order], return_index=True)
    portraits = []
    for person, body in zip(persons.tolist(), order[starts].tolist(), strict=True):
        face = best_face[person][1] if person in best_face else None
        row = body if face is None else first_of[person, int(faces.frames[face])]
        shown = None if face is None else faces.boxes[face]
        frame, time_s = int(bodies.frames[row]), float(bodies.times_s[row])
        portraits.append(Portrait(person, frame, time_s, bodies.boxes[row], shown))
    return portraits


def widened(box: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return an xyxy box with a margin on each side, as a share of its width and height."""
    sides = np.array([box[2] - box[0], box[3] - box[1]]) * margin
    return np.concatenate([box[:2] - sides, box[2:] + sides])


def _keys(persons: NDArray[np.int64], frames: NDArray[np.int64]) -> list[tuple[int, int]]:
    return list(zip(persons.tolist(), frames.tolist(), strict=True))
