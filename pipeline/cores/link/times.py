"""Measure times between tracklets in whole microseconds, in which the published tables hold them."""

import numpy as np
from numpy.typing import NDArray


def microseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return times as the tables hold them, in whole microseconds."""
    return np.rint(np.round(seconds, 6) * 1e6).astype(np.int64)


def as_microseconds(limit_s: float) -> int:
    """Return the largest whole number of microseconds within a limit in seconds."""
    return int(round(limit_s * 1e9) // 1000)


def apart_us(
    first_us: NDArray[np.int64], last_us: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the microseconds from the end of the earlier tracklet to the beginning of the later one, 0 if they
    interleave.

    first_us, last_us: (N,). The first and the last time at which each was seen.
    a, b: indices. They have the shape of the result.
    """
    return np.maximum(0, np.maximum(first_us[a] - last_us[b], first_us[b] - last_us[a]))
