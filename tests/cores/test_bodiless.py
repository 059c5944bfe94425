from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.bodiless import bodiless, head_and_shoulders


def boxes(*corners: Sequence[float]) -> NDArray[np.float32]:
    return np.array(corners, np.float32).reshape(-1, 4)


def alone(people: NDArray[np.float32], faces: NDArray[np.float32]) -> list[int]:
    return bodiless(people, np.full(len(people), 0.9), faces, np.full(len(faces), 0.9)).tolist()


BODY = [100, 100, 200, 400]
HEAD = [130, 110, 170, 160]


def test_a_face_at_the_head_of_a_body_is_no_one_else() -> None:
    assert alone(boxes(BODY), boxes(HEAD)) == []


def test_a_face_beside_all_bodies_has_none() -> None:
    assert alone(boxes(BODY), boxes(HEAD, [500, 110, 540, 160])) == [1]


def test_without_any_body_every_face_is_alone() -> None:
    assert alone(boxes(), boxes(HEAD)) == [0]
    assert alone(boxes(BODY), boxes()) == []


def test_a_child_held_before_a_grown_up_is_somebody() -> None:
    assert alone(boxes(BODY), boxes(HEAD, [120, 250, 160, 300])) == [1]


def test_someone_who_bends_is_not_two() -> None:
    assert alone(boxes(BODY), boxes([120, 250, 160, 300])) == []


def test_head_and_shoulders_lie_around_the_face_and_inside_the_picture() -> None:
    guessed = head_and_shoulders(boxes([500, 500, 540, 560], [0, 0, 40, 60]), 1000, 1000)
    assert guessed.tolist() == [[460, 464, 580, 644], [0, 0, 80, 144]]
