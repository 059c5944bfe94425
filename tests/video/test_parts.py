import numpy as np
import pytest

from pipeline.cores.analysed import analysed_frames
from pipeline.video.parts import least_frames


@pytest.mark.parametrize(
    ("recorded_fps", "fps", "least"),
    [(25, 8, 3), (30, 8, 3), (10, 8, 3), (24, 2, 3), (7, 0, 3), (24, 0, 9), (50, 0, 19)],
)
def test_a_tracklet_needs_frames_for_three_eighths_of_a_second_and_never_fewer_than_three(
    recorded_fps: int, fps: int, least: int
) -> None:
    times_s = np.round(np.arange(20 * recorded_fps) / recorded_fps, 6)
    frames = analysed_frames(times_s, cell_seconds=1, fps=fps) - 1
    times_ns = (times_s[frames] * 1e9).astype(np.int64)
    assert least_frames(3, times_ns) == least
    after_a_hole = np.append(times_ns, times_ns + 3_600_000_000_000)
    assert least_frames(3, after_a_hole) == least


def test_a_picture_has_no_rate() -> None:
    assert least_frames(3, np.zeros(1, np.int64)) == 3
