import cv2
import numpy as np
import pytest

from pipeline.media.camera import camera_motion

RNG = np.random.default_rng(0)
SCENE = cv2.GaussianBlur(cv2.resize(RNG.integers(0, 256, (60, 80), np.uint8), (640, 480)), (0, 0), 2)


def view(angle_deg: float, zoom: float, dx: float, dy: float) -> np.ndarray:
    """Return a camera's view of the scene, 256 x 192 px."""
    matrix = cv2.getRotationMatrix2D((320, 240), angle_deg, zoom) + np.array([[0, 0, dx - 192], [0, 0, dy - 144]])
    return cv2.warpAffine(SCENE, matrix, (256, 192))


@pytest.mark.parametrize(
    ("angle", "zoom", "dx", "dy"), [(0, 1, 12, 0), (0, 1, -3, 7), (2, 1, 4, 4), (0, 1.05, 0, 0), (-1, 0.97, 10, -5)]
)
def test_the_motion_of_the_camera_is_found(angle: float, zoom: float, dx: float, dy: float) -> None:
    motion = camera_motion(view(0, 1, 0, 0), view(angle, zoom, dx, dy))
    assert motion is not None
    expected = cv2.getRotationMatrix2D((128, 96), angle, zoom) + np.array([[0, 0, dx], [0, 0, dy]])
    corners = np.array([[0, 0, 1], [256, 0, 1], [0, 192, 1], [256, 192, 1]])
    np.testing.assert_allclose(corners @ motion.T, corners @ expected.T, atol=0.3)


def test_people_who_walk_do_not_move_the_camera() -> None:
    earlier, later = view(0, 1, 0, 0), view(0, 1, 8, 0)
    later[60:140, 100:150] = view(0, 1, -6, 0)[60:140, 100:150]
    motion = camera_motion(earlier, later)
    assert motion is not None
    np.testing.assert_allclose(motion, [[1, 0, 8], [0, 1, 0]], atol=0.1)


def test_a_camera_that_stands_still_does_not_move_at_all() -> None:
    noisy = np.clip(view(0, 1, 0, 0) + RNG.normal(0, 4, (192, 256)), 0, 255).astype(np.uint8)
    assert camera_motion(view(0, 1, 0, 0), noisy) is None


def test_no_motion_is_measured_over_a_cut_or_without_anything_to_follow() -> None:
    other = RNG.integers(0, 256, (192, 256), np.uint8)
    flat = np.full((192, 256), 90, np.uint8)
    assert camera_motion(view(0, 1, 0, 0), other) is None
    assert camera_motion(flat, flat) is None
    assert camera_motion(flat, view(0, 1, 0, 0)) is None
