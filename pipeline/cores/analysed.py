"""The frames of a published video. Its tables name a frame only where somebody was in the picture."""

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.plan import analysed, exact


def frame_times(
    frames: NDArray[np.int64], times_s: NDArray[np.float64], *, num_frames: int, duration_s: float
) -> NDArray[np.float64]:
    """Return the time of each of a video's frames, in seconds: (num_frames,) float64.

    Frames without rows are assumed to be evenly spaced between the others.

    frames, times_s: (R,) of the rows of a published table. Frames count from 1.
    """
    known, first = np.unique(np.concatenate([frames, [1, num_frames + 1]]), return_index=True)
    known_s = np.concatenate([times_s, [0, duration_s]])[first]
    return np.interp(np.arange(1, num_frames + 1), known, known_s).round(6)


def analysed_frames(times_s: NDArray[np.float64], *, cell_seconds: float, fps: float) -> NDArray[np.int64]:
    """Return the analysed frames of a video, from 1, by the times of all its frames."""
    grid = analysed([exact(time_s) for time_s in times_s.tolist()], exact(cell_seconds), exact(fps))
    return np.array(grid, np.int64) + 1
