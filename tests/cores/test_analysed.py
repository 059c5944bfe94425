import numpy as np
import pytest

from pipeline.cores.analysed import analysed_frames, frame_times


@pytest.mark.parametrize(
    ("known", "times_s", "fps", "expected"),
    [
        ([], [], 2, [1, 6, 11, 16]),  # 10 frames a second, as far as anybody knows
        ([1, 3, 3], [0.0, 0.5, 0.5], 2, [1, 3, 9, 15]),  # the first frames are slow ones: 0, .25, .5, then 1/12 s apart
        ([], [], 0, list(range(1, 21))),
    ],
)
def test_the_grid_is_found_again_by_the_times_of_rows(
    known: list[int], times_s: list[float], fps: float, expected: list[int]
) -> None:
    rows_frames, rows_s = np.array(known, np.int64), np.array(times_s)
    all_s = frame_times(rows_frames, rows_s, num_frames=20, duration_s=2.0)
    computed = analysed_frames(all_s, cell_seconds=1.0, fps=fps)
    assert computed.tolist() == expected
