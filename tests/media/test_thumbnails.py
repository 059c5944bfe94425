from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from pipeline.arrays import Picture
from pipeline.media.probe import Probe
from pipeline.media.screen import Screen
from pipeline.media.thumbnails import PLANAR, Thumbnails
from tests import builders, clips


def frame_of(picture: Picture, pixel_format: str, matrix: int = Colorspace.ITU601) -> VideoFrame:
    is_full = pixel_format.startswith("yuvj")
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(
        format=pixel_format,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
    )
    frame.colorspace = 1 if matrix == Colorspace.ITU709 else 6
    frame.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    return frame


def probe_of(picture: Picture) -> Probe:
    height, width = picture.shape[:2]
    return replace(builders.probe(builders.Film(1, ())), width=width, height=height, stored=(width, height))


def picture_of(width: int, height: int) -> Picture:
    return next(clips.scene(1, width=width, height=height))


@pytest.mark.parametrize("pixel_format", sorted(PLANAR))
@pytest.mark.parametrize("size", [(640, 360), (1366, 768), (256, 144), (96, 160), (1920, 1080)])
def test_a_thumbnail_shows_what_a_careful_scaler_shows(pixel_format: str, size: tuple[int, int]) -> None:
    picture = picture_of(*size)
    frame, probed = frame_of(picture, pixel_format), probe_of(picture)
    thumbnails = Thumbnails(probed, 256)
    _, saturation, lightness = cv2.split(thumbnails(frame))
    scaled = cv2.resize(picture, thumbnails.size, interpolation=cv2.INTER_AREA)
    _, expected_saturation, expected_lightness = cv2.split(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV))
    assert np.abs(lightness.astype(int) - expected_lightness).mean() < 3
    assert np.abs(saturation.astype(int) - expected_saturation).mean() < 8


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709])
def test_colours_are_converted_by_the_matrix_that_the_frame_states(matrix: int) -> None:
    picture = np.full((288, 512, 3), (200, 60, 40), np.uint8)
    thumbnail = Thumbnails(probe_of(picture), 256)(frame_of(picture, "yuv420p", matrix))
    expected = cv2.cvtColor(picture[:1, :1], cv2.COLOR_RGB2HSV)[0, 0]
    np.testing.assert_allclose(thumbnail.mean(axis=(0, 1)), expected, atol=4)


@pytest.mark.parametrize("size", [(640, 360), (1366, 768), (854, 480)])
def test_planes_that_are_fitted_together_look_as_those_that_are_fitted_alone(size: tuple[int, int]) -> None:
    width, height = size[0] // 2, size[1] // 2
    planes = [picture_of(width, height)[..., channel] for channel in range(3)]
    fitted = Thumbnails(probe_of(picture_of(*size)), 256).size
    together = cv2.resize(cv2.merge(planes), fitted, interpolation=cv2.INTER_LINEAR)
    alone = [cv2.resize(plane, fitted, interpolation=cv2.INTER_LINEAR) for plane in planes]
    np.testing.assert_array_equal(together, cv2.merge(alone))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "nv12", "rgb24"])
def test_other_pixel_formats_are_scaled_by_ffmpeg(pixel_format: str) -> None:
    picture = picture_of(640, 360)
    probed = probe_of(picture)
    frame = frame_of(picture, pixel_format)
    bgr = Screen(probed, (256, 144), Interpolation.AREA)(frame, "bgr24")
    np.testing.assert_array_equal(Thumbnails(probed, 256)(frame), cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV))


def test_thumbnails_have_one_size_whatever_the_shape_of_a_frame() -> None:
    picture = picture_of(640, 360)
    thumbnails = Thumbnails(replace(probe_of(picture), rotation=90, width=360, height=640), 256)
    assert thumbnails.size == (256, 144)
    for odd in (picture, picture_of(320, 320), picture_of(1280, 720)):
        assert thumbnails(frame_of(odd, "yuv420p")).shape == (144, 256, 3)


def test_a_thumbnail_of_anamorphic_pixels_has_the_displayed_shape() -> None:
    picture = picture_of(720, 576)
    probed = replace(probe_of(picture), sample_aspect=Fraction(64, 45), width=1024)
    assert Thumbnails(probed, 256)(frame_of(picture, "yuv420p")).shape == (144, 256, 3)
