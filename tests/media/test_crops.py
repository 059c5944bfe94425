import cv2
import numpy as np
from numpy.testing import assert_array_equal

from pipeline.media.crops import cut_small, sharpness


def test_a_small_crop_is_the_picture_itself_with_its_position() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    crop = cut_small(picture, [30, 20, 90, 60], 512)
    assert_array_equal(crop.picture, picture[20:60, 30:90])
    assert (crop.x, crop.y, crop.scale) == (30, 20, 1)


def test_a_large_crop_is_scaled_down_and_a_point_can_be_mapped_back() -> None:
    picture = np.zeros((1000, 1000, 3), np.uint8)
    picture[396:404, 296:304] = 255
    crop = cut_small(picture, [100, 200, 900, 1000], 400)
    assert crop.picture.shape == (400, 400, 3)
    ys, xs = np.nonzero(crop.picture[..., 0] > 127)
    assert xs.mean() + 0.5 == (300 - crop.x) * crop.scale
    assert ys.mean() + 0.5 == (400 - crop.y) * crop.scale


def test_a_crop_keeps_no_whole_picture_alive() -> None:
    crop = cut_small(np.zeros((1000, 1000, 3), np.uint8), [0, 0, 50, 50], 512)
    assert crop.picture.base is None


def test_a_blurred_picture_is_less_sharp() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8)
    assert sharpness(np.full((50, 50, 3), 99, np.uint8)) == 0
    assert sharpness(blurred) < 0.1 * sharpness(picture)
