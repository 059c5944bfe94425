"""What an estimator sees of a body."""

import numpy as np
from numpy.testing import assert_array_equal

from pipeline.cores.body_crops import BodyCut, cut_body

NO_FACES = np.zeros((0, 4), np.float32)
BODY = [100, 50, 200, 350]


def cut(
    *others: list[float], faces: list[list[float]] | None = None, scores: float = 0.9, min_score: float = 0.4
) -> BodyCut | None:
    """Cut the BODY among others out of a crop of its box at half the size."""
    boxes = np.array([BODY, *others], np.float32)
    given = np.array(faces, np.float32) if faces else NO_FACES
    corner = np.array(BODY[:2], np.float64)
    return cut_body(boxes, np.full(len(boxes), scores, np.float32), 0, given, corner, 0.5, (50, 150), min_score)


def test_a_body_alone_is_whole() -> None:
    body = cut()
    assert body is not None
    assert (body.rest, body.share, len(body.black)) == ((0, 0, 50, 150), 1, 0)


def test_another_person_at_the_side_is_cut_off_with_the_border_between() -> None:
    body = cut([170, 60, 300, 340])
    assert body is not None
    assert_array_equal(body.black, [[35, 0, 50, 150]])  # from 5 px below the upper border, and so widened to it
    assert body.rest == (0, 0, 35, 150)


def test_faces_are_black_and_nothing_is_widened_for_them() -> None:
    body = cut(faces=[[130, 60, 170, 110], [400, 0, 440, 50]])
    assert body is not None
    assert_array_equal(body.black, [[15, 5, 35, 30]])
    assert body.rest == (0, 0, 50, 150)


def test_the_same_person_twice_and_weak_boxes_hide_nobody() -> None:
    twice = cut([102, 52, 200, 350])
    weak = cut([150, 50, 300, 350], scores=0.3)
    assert twice is not None
    assert weak is not None
    assert len(twice.black) == len(weak.black) == 0
    counted = cut([150, 50, 300, 350], scores=0.3, min_score=0.3)  # as the profile crowd counts people
    assert counted is not None
    assert len(counted.black) == 1


def test_a_body_that_hardly_shows_is_no_body() -> None:
    assert cut([40, 20, 190, 360]) is None


def test_a_body_of_few_pixels_is_no_body() -> None:
    boxes = np.array([[0, 0, 40, 200]], np.float32)
    assert cut_body(boxes, np.ones(1, np.float32), 0, NO_FACES, np.zeros(2), 1.0, (40, 200), 0.4) is None
