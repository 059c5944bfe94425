"""Times in the tables of videos whose frame rates are not decimal numbers."""

from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from tests.builders import Film, Walker, publish


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25)])
def test_a_frame_has_the_exact_time_of_its_rate_to_the_microsecond(fps: Fraction, tmp_path: Path) -> None:
    publish(Film(70.0, [Walker(0, 70, x=20, speed=5)], fps=fps), [], str(tmp_path))
    boxes = pd.read_parquet(tmp_path / "detections").sort_values("frame_num")
    assert boxes.frame_num.max() > 60 * fps
    exact = [round(float((frame - 1) / fps), 6) for frame in boxes.frame_num]
    assert boxes.time_s.tolist() == exact
    shot = pd.read_parquet(tmp_path / "shots").iloc[0]
    num_frames = pd.read_parquet(tmp_path / "videos").num_frames.item()
    assert (shot.start_s, shot.end_s) == (0, round(float(num_frames / fps), 6))
    person = pd.read_parquet(tmp_path / "persons").iloc[0]
    assert person.end_s == round(float(boxes.frame_num.max() / fps), 6)
