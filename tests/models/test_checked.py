"""Models that others bring are tried when they are loaded, and checked at every call."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pipeline.arrays import Detections, Estimates, Faces
from pipeline.errors import DataError, UserError
from pipeline.models.checked import MODELS, load_checked
from pipeline.weights.kinds import GROUPS

NAME = "kind mine of my-package 1.0"
FACES = np.zeros((3, 8, 8, 3), np.uint8)


def estimates(count: int, **changes: Any) -> Estimates:
    values = {"ages": np.full(count, 30.0), "age_stds": np.full(count, 5.0), "female_probs": np.full(count, 0.9)}
    return Estimates(**(values | changes))


def loaded(model: Any, role: str = "estimator") -> Any:
    return load_checked(NAME, role, lambda: model, "mend the package")


class Batched:
    """Any model that is called with pictures and has a batch."""

    batch = 4

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def crops(self, picture: Any, boxes: Any) -> Any:
        return np.zeros((len(boxes), 4, 4, 3), np.uint8)

    def __call__(self, pictures: Any, *, alone: bool = False) -> Any:
        return self.answer(len(pictures))


NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
NO_FACE = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def found(kind: Any, *, boxes: float = 1.0, scores: float = 0.9) -> Any:
    """Return one face or person with such a box and score."""
    points = {"landmarks": np.zeros((1, 5, 2), np.float32)} if kind is Faces else {}
    return kind(np.full((1, 4), boxes, np.float32), np.full(1, scores, np.float32), **points)


def test_every_role_of_packages_has_a_check() -> None:
    assert {role for roles in GROUPS.values() for role in roles} == MODELS.keys()


def test_an_estimator_may_answer_with_lists_and_without_ages() -> None:
    values = {"ages": [float("nan")] * 3, "age_dists": [[0.25] * 4 + [0.0] * 8] * 3, "age_leans": [0.5] * 3}
    cut = lambda count: {name: given[:count] for name, given in values.items()}  # noqa: E731
    answer = loaded(lambda faces: estimates(len(faces), **cut(len(faces))))(FACES)
    assert answer.age_dists.shape == (3, 12)
    assert_allclose(answer.age_leans, 0.5)
    assert (answer.ages.dtype, answer.female_probs.dtype) == (np.float32, np.float32)
    assert_allclose(answer.female_probs, 0.9)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: [(30, 5, 0.9)] * n, "estimates are list and not Estimates"),
        (lambda n: estimates(1), "ages have the shape 1 and not 2"),
        (lambda n: estimates(n, ages=["old"] * n), "ages are no numbers"),
        (lambda n: estimates(n, ages=np.full(n, np.inf)), "ages go to inf years"),
        (lambda n: estimates(n, ages=[30, 400][:n]), "ages go to 400 years, and only -20 to 130 can be ages"),
        (lambda n: estimates(n, ages=np.full(n, -40.0)), "ages go to -40 years, and only -20 to 130"),
        (lambda n: estimates(n, age_stds=np.full(n, np.nan)), "age_stds are not all above 0"),
        (lambda n: estimates(n, female_probs=np.full(n, 1.2)), "female_probs are not all from 0 to 1"),
        (lambda n: estimates(n, age_dists=np.full((n, 8), 0.1)), "age_dists have the shape 2x8 and not 2x12"),
        (lambda n: estimates(n, age_dists=np.full((n, 12), 1.0)), "age_dists are not all probabilities that sum to 1"),
        (lambda n: estimates(n, age_dists=np.eye(12)[:n] * 3 - 1 / 6), "age_dists are not all probabilities"),
        (lambda n: estimates(n, age_leans=np.full(n, 2.0)), "age_leans are not all from -1 to 1"),
        (lambda n: 1 / 0, "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_an_estimator_that_does_not_fit_is_refused_before_any_work(answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"{NAME}.*{message}.*; mend the package") as error:
        loaded(lambda faces: answer(len(faces)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("role", "answer", "message"),
    [
        ("face_embedding", lambda n: np.zeros((n, 3, 3)), "vectors have the shape 2x3x3 and not 2xN"),
        ("body", lambda n: np.full((n, 3), np.nan), "vectors have numbers that are not finite"),
        ("face_detector", lambda n: [NO_FACE], "results are no list of 2 Faces"),
        ("look", lambda n: [NOBODY] * n, "results are no list of 2 Faces"),
        ("detector", lambda n: NOBODY, "results are no list of 2 Detections"),
        ("detector", lambda n: [found(Detections, scores=7)] * n, "scores are not all from 0 to 1"),
        ("look", lambda n: [found(Faces, scores=np.nan)] * n, "scores are not all from 0 to 1"),
        ("face_detector", lambda n: [found(Faces, boxes=np.inf)] * n, "boxes have numbers that are not finite"),
        ("restorer", lambda n: np.ones((n, 512, 512, 3)), "faces are float64 and not uint8"),
        ("restorer", lambda n: np.zeros((n, 8, 8, 3), np.uint8), "faces have the shape 2x8x8x3 and not 2x512x512x3"),
    ],
)
def test_models_of_every_role_are_tried(role: str, answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        loaded(Batched(answer), role)


def test_an_age_a_little_beyond_the_youngest_and_the_oldest_is_theirs() -> None:
    ages = np.array([-3.0, 45.0, 118.0])
    assert loaded(lambda faces: estimates(len(faces), ages=ages[: len(faces)]))(FACES).ages.tolist() == [0, 45, 110]


def test_a_detector_needs_a_batch() -> None:
    with pytest.raises(UserError, match=r"failed: AttributeError.*batch"):
        loaded(lambda pictures, **_: [NOBODY] * len(pictures), "detector")
    assert loaded(Batched(lambda n: [NOBODY] * n), "detector").batch == 4


def test_vectors_are_brought_to_length_one() -> None:
    embed = loaded(Batched(lambda n: np.tile([3.0, 4.0], (n, 1))), "face_embedding")
    assert_allclose(embed(FACES), [[0.6, 0.8]] * 3)


def test_a_failure_at_one_picture_is_that_videos_own() -> None:
    class Moody:
        def __call__(self, faces: Any) -> Estimates:
            if len(faces) == 3:
                raise RuntimeError("no\nidea")
            return estimates(len(faces))

    model = loaded(Moody())
    with pytest.raises(DataError, match=r"failed: RuntimeError: no$"):
        model(FACES)


def test_an_estimator_of_a_package_can_read_bodies() -> None:
    class Both(Batched):
        reads_bodies = True

        def judge(self, faces: Any, bodies: Any) -> Any:
            return self.answer(len(faces))

    model = loaded(Both(estimates))
    assert model.reads_bodies
    assert len(model.judge([None], [FACES[0]]).ages) == 1
    assert not loaded(Batched(estimates)).reads_bodies
    Both.judge = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match="failed: TypeError"):
        loaded(Both(estimates))
