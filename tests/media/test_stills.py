"""Tests of single frames of a source."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.media.probing import probe
from pipeline.media.stills import still_at
from tests import clips

FIRST, SECOND, LAST = 40, 110, 180


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a video of three grey frames, at 0, 0.4 and 3.5 s."""
    pictures = [np.full((96, 160, 3), grey, np.uint8) for grey in (FIRST, SECOND, LAST)]
    path = tmp_path_factory.mktemp("slides") / "slides.mp4"
    return clips.write_video(path, pictures, stamps=[0, 400, 3500], time_base=Fraction(1, 1000), b_frames=0)


@pytest.mark.parametrize(
    ("time_s", "grey"),
    [(-1, FIRST), (0, FIRST), (0.399, FIRST), (0.4, SECOND), (2.5, SECOND), (3.2, SECOND), (3.5, LAST), (60, LAST)],
)
def test_a_moment_has_the_frame_that_is_displayed_then(slides: Path, time_s: float, grey: int) -> None:
    picture = still_at(lambda: str(slides), probe(lambda: str(slides)), time_s)
    assert abs(float(picture.mean()) - grey) < 3
