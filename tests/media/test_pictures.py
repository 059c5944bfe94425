import numpy as np
import pytest

from pipeline.media.pictures import cut_out, decode_jpeg, encode_jpeg, resize_to_long_side
from tests.clips import scene


def test_a_jpeg_comes_back_with_its_colours_in_rgb_order() -> None:
    red = np.zeros((32, 48, 3), np.uint8)
    red[..., 0] = 200
    back = decode_jpeg(encode_jpeg(red, 95))
    assert back.shape == red.shape
    assert np.abs(back.astype(int) - red).max() < 8


def test_bytes_that_are_no_jpeg_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a JPEG"):
        decode_jpeg(b"")
    with pytest.raises(ValueError, match="must be a JPEG"):
        decode_jpeg(b"nothing of the kind")


def test_a_crop_holds_every_pixel_that_the_box_touches_and_is_clipped() -> None:
    picture = next(iter(scene(1)))
    assert np.array_equal(cut_out(picture, (10.6, 20.2, 30.1, 40.0)), picture[20:40, 10:31])
    assert np.array_equal(cut_out(picture, (-5, -5, 1000, 12.5)), picture[:13])
    assert cut_out(picture, (-20, 0, -10, 10)).size == 0


def test_a_crop_owns_its_memory() -> None:
    picture = next(iter(scene(1)))
    crop = cut_out(picture, (0, 0, 10, 10))
    crop[:] = 0
    assert picture[:10, :10].any()


def test_pictures_are_scaled_down_and_never_up() -> None:
    picture = next(iter(scene(1, width=160, height=96)))
    assert resize_to_long_side(picture, 80).shape == (48, 80, 3)
    assert resize_to_long_side(picture, 400) is picture
