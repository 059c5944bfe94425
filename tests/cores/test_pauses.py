import numpy as np
import pytest

from pipeline.cores.pauses import Segment, segments


def divide(seen: str, times_s: list[float] | None = None) -> list[Segment]:
    """Return the segments of a string in which x is a frame with a detection.

    There is one frame per second. The memory is two updates. A silence of 5 s or more is a hole of four updates.
    """
    times = np.arange(len(seen), dtype=float) if times_s is None else np.array(times_s)
    return segments(times, np.array([c == "x" for c in seen]), memory=2, silence_s=4.9, hole_updates=4)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("", []),
        ("...", []),
        ("xxx", [Segment(0, 3, 0)]),
        ("..xx.", [Segment(2, 4, 2)]),
        ("x.x", [Segment(0, 3, 0)]),  # still remembered
        ("x..x", [Segment(0, 1, 0), Segment(3, 4, 3)]),  # as long as the memory, so forgotten
        ("xx...x.x....x", [Segment(0, 2, 0), Segment(5, 8, 5), Segment(12, 13, 12)]),
    ],
)
def test_a_pause_of_all_that_is_remembered_divides(seen: str, expected: list[Segment]) -> None:
    assert divide(seen) == expected


def test_a_hole_in_time_counts_as_the_updates_that_stand_for_it() -> None:
    assert divide("xx.x", [0, 1, 10, 11]) == [Segment(0, 2, 0), Segment(3, 4, 7)]
    assert divide(".x", [0, 10]) == [Segment(1, 2, 5)]
