"""Tests that drawing on the planes of a video frame shows the same as drawing on a picture."""

import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.media.canvas import Canvas, Coding
from pipeline.media.draw import COLOURS

CODINGS = {"BT.601": Coding(6, False, 6, 6), "BT.709": Coding(1, False, 1, 1), "BT.709, full": Coding(1, True, 1, 1)}


def shown(frame: VideoFrame, coding: Coding) -> np.ndarray:
    """Return the RGB picture that a player shows of a frame."""
    frame.color_range, frame.colorspace = 2 if coding.is_full else 1, coding.matrix
    return frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_on_planes_is_shown_as_that_colour(name: str, colour: tuple[int, int, int]) -> None:
    frame = VideoFrame(64, 48, "yuv420p")
    canvas = Canvas.of_frame(frame, 64, 48, CODINGS[name])
    canvas.fill(0, 0, 64, 48, (0, 0, 0))
    canvas.fill(8, 8, 40, 40, colour)
    canvas.paste(44, 10, canvas.patch(np.full((20, 14, 3), colour, np.uint8)))
    picture = shown(frame, CODINGS[name]).astype(int)
    assert np.abs(picture[12:36, 12:36] - colour).max() <= 4
    assert np.abs(picture[14:26, 48:54] - colour).max() <= 4
    assert picture[:6].max() <= 4


def test_what_lies_outside_is_left_out() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    canvas = Canvas.of_picture(picture)
    canvas.fill(-10, -10, 4, 4, (9, 9, 9))
    canvas.fill(26, 16, 90, 90, (9, 9, 9))
    canvas.fill(8, 8, 8, 12, (9, 9, 9))
    canvas.paste(28, 18, canvas.patch(np.full((6, 6, 3), 9, np.uint8)))
    assert picture.any(axis=2).sum() == 4 * 4 + 4 * 4


def test_an_odd_picture_is_drawn_on_to_its_edge() -> None:
    frame = VideoFrame(32, 22, "yuv420p")
    canvas = Canvas.of_frame(frame, 31, 21, CODINGS["BT.601"])
    canvas.fill(0, 0, 32, 22, (255, 255, 255))
    assert shown(frame, CODINGS["BT.601"]).min() >= 250
