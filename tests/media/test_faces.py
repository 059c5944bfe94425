"""Tests that an aligned face is upright, of one size, with eyes and mouth at the template's places."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import load
from pipeline.media.faces import OUTSIDE, TEMPLATE, align_face, face_detail, face_sharpness, resize_face, similarity

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])


def placed(scale: float, turn_deg: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Return the template's points somewhere else in a picture."""
    angle = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE * scale) @ turn.T + shift


def dotted(landmarks: NDArray[np.float64], size: int, radius: int) -> NDArray[np.uint8]:
    """Return a picture with a disc of a different colour around every landmark."""
    picture = np.zeros((size, size, 3), np.uint8)
    for (x, y), colour in zip(landmarks, COLOURS.tolist(), strict=True):
        cv2.circle(picture, (round(x), round(y)), radius, colour, -1)
    return picture


@pytest.mark.parametrize("size", [112, 224, 512])
@pytest.mark.parametrize(
    ("scale", "turn_deg", "shift"),
    [(0.3, 0, (40, 60)), (1.0, 30, (250, 20)), (1.9, -20, (-60, 250)), (0.5, 175, (420, 450))],
)
def test_every_landmark_is_moved_to_its_place_in_the_template(
    scale: float, turn_deg: float, shift: tuple[float, float], size: int
) -> None:
    landmarks = placed(scale, turn_deg, shift)
    aligned = align_face(dotted(landmarks, 1100, max(3, round(22 * scale))), landmarks, size)
    assert aligned.shape == (size, size, 3)
    assert aligned.dtype == np.uint8
    for (x, y), colour in zip(TEMPLATE * size / 512, COLOURS, strict=True):
        np.testing.assert_allclose(aligned[round(y), round(x)], colour, atol=60)


def test_a_picture_is_not_mirrored() -> None:
    matrix = similarity(TEMPLATE * [-1, 1] + [512, 0], TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_a_similarity_is_found_exactly_and_keeps_angles() -> None:
    matrix = similarity(placed(0.37, 25, (12, -7)), TEMPLATE)
    np.testing.assert_allclose(placed(0.37, 25, (12, -7)) @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-9)
    np.testing.assert_allclose(matrix[0, :2] @ matrix[1, :2], 0, atol=1e-12)


def test_landmarks_in_one_point_still_give_a_picture() -> None:
    assert align_face(np.full((50, 50, 3), 9, np.uint8), np.full((5, 2), 25.0), 112).shape == (112, 112, 3)


def test_what_lies_beyond_the_picture_is_grey() -> None:
    aligned = align_face(np.zeros((100, 100, 3), np.uint8), placed(0.3, 0, (-70, 0)), 224)
    assert tuple(aligned[112, 0]) == OUTSIDE


def test_shrinking_a_fine_pattern_leaves_grey_and_no_coarse_pattern() -> None:
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::2] = 255
    aligned = align_face(stripes, placed(2.0, 0, (60, 60)), 112)
    assert aligned.std() < 10


def portrait(blur_px: float = 0) -> NDArray[np.uint8]:
    """Return a picture with broad shades, as a face has, and fine detail."""
    random = np.random.default_rng(5)
    shades = cv2.resize(random.uniform(60, 200, (8, 8, 1)), (300, 300), interpolation=cv2.INTER_CUBIC)[..., None]
    picture = np.clip(shades + random.normal(0, 20, (300, 300, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), blur_px), np.uint8) if blur_px else picture


def test_a_soft_face_measures_less_sharp_than_a_clear_one() -> None:
    landmarks = placed(0.5, 0, (10, 10))
    clear, soft, softer = (face_sharpness(portrait(blur_px), landmarks) for blur_px in (0, 2, 6))
    assert clear > 4 * soft > 8 * softer
    assert face_sharpness(np.full((300, 300, 3), 80, np.uint8), landmarks) == 0


def test_a_dim_face_is_not_a_blurred_one() -> None:
    landmarks = placed(0.5, 0, (10, 10))
    dim = (portrait() // 4).astype(np.uint8)
    assert face_sharpness(dim, landmarks) == pytest.approx(face_sharpness(portrait(), landmarks), rel=0.2)


def test_sharpness_measures_the_face_and_not_its_surroundings() -> None:
    landmarks = placed(0.5, 0, (10, 10))
    picture = np.random.default_rng(5).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    (x0, y0), (x1, y1) = (landmarks.min(axis=0) - 34).astype(int), (landmarks.max(axis=0) + 34).astype(int)
    picture[y0:y1, x0:x1] = 90
    assert face_sharpness(picture, landmarks) < 1


def textured(blur_px: float = 0) -> NDArray[np.uint8]:
    """Return a picture with the same contrast at every size, as faces have."""
    random = np.random.default_rng(3)
    octaves = [random.normal(0, 18, (side, side)) for side in (4, 8, 16, 32, 64, 128)]
    grey = 128 + sum(cv2.resize(octave, (300, 300), interpolation=cv2.INTER_CUBIC) for octave in octaves)
    picture = np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), blur_px), np.uint8) if blur_px else picture


def test_a_small_face_keeps_more_of_itself_bicubically_and_a_large_one_is_the_same() -> None:
    def aligned(scale: float, *, bicubic: bool = False) -> NDArray[np.float64]:
        picture = cv2.resize(textured(5), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        landmarks = (placed(0.5, 0, (10, 10)) + 0.5) * scale - 0.5
        face = align_face(np.asarray(picture, np.uint8), landmarks, 224, bicubic=bicubic)
        return face.astype(np.float64)

    large = aligned(1.0)
    bilinear, bicubic = (np.abs(aligned(0.1, bicubic=wanted) - large).mean() for wanted in (False, True))
    assert bicubic < 0.97 * bilinear
    np.testing.assert_array_equal(aligned(1.0, bicubic=True), large)


@pytest.mark.parametrize("noise", [0, 2])
@pytest.mark.parametrize("quality", [40, 95])
def test_a_face_blurred_on_purpose_has_no_detail_whatever_lies_over_it(noise: float, quality: int) -> None:
    landmarks = placed(0.5, 0, (10, 10))

    def detail(picture: NDArray[np.uint8]) -> float:
        grain = np.random.default_rng(1).normal(0, noise, picture.shape) if noise else 0
        encoded = cv2.imencode(".jpg", np.clip(picture + grain, 0, 255).astype(np.uint8), [1, quality])[1]
        return face_detail(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8), landmarks)

    assert detail(textured(14)) < load().gate.min_detail
    assert detail(textured(1)) > 1.3 * load().gate.min_detail


def test_detail_does_not_depend_on_the_light() -> None:
    landmarks = placed(0.5, 0, (10, 10))
    dim = (textured() // 4).astype(np.uint8)
    assert face_detail(dim, landmarks) == pytest.approx(face_detail(textured(), landmarks), rel=0.15)
    assert face_detail(np.full((300, 300, 3), 80, np.uint8), landmarks) == 0


def test_an_edge_beside_a_blurred_face_gives_it_no_detail() -> None:
    landmarks = placed(0.5, 0, (10, 10))
    picture = textured(14)
    picture[:, : round(landmarks[:, 0].min()) + 4] = (
        255  # hair, or the wall behind, as landmarks on such a face are off
    )
    assert face_detail(picture, landmarks) < load().gate.min_detail


def test_a_resized_face_stays_aligned() -> None:
    large = dotted(TEMPLATE, 512, 20)
    small = resize_face(large, 224)
    assert small.shape == (224, 224, 3)
    for (x, y), colour in zip(TEMPLATE * 224 / 512, COLOURS, strict=True):
        np.testing.assert_allclose(small[round(y), round(x)], colour, atol=60)
    assert resize_face(small, 224) is small
