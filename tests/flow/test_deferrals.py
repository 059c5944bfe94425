"""When videos that cannot be reached are tried again, and when a run gives up waiting."""

import pytest

from pipeline.errors import PassingError
from pipeline.flow.deferrals import Deferrals
from pipeline.planning.outage import OUTAGE_VIDEOS


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_video_is_tried_again_after_each_wait_and_then_left_to_the_next_run() -> None:
    clock = Clock()
    deferrals = Deferrals((60, 300), clock)
    for wait_s in (60, 300):
        assert deferrals.fail("v", "asleep")
        assert deferrals.waits("v")
        clock.now_s += wait_s - 1
        assert deferrals.take_due() == []
        clock.now_s += 1
        assert deferrals.take_due() == ["v"]
        assert not deferrals.is_waiting
    assert not deferrals.fail("v", "still asleep")
    assert not deferrals.is_waiting


def test_several_failures_of_a_video_that_waits_are_one() -> None:
    deferrals = Deferrals((0, 0), Clock())
    assert [deferrals.fail("v", "asleep") for _ in range(5)] == [True] * 5
    assert deferrals.take_due() == ["v"]
    assert deferrals.fail("v", "asleep")


def test_many_videos_in_a_row_end_the_run_and_a_success_between_them_does_not() -> None:
    deferrals = Deferrals((60,), Clock())
    for i in range(OUTAGE_VIDEOS - 1):
        deferrals.fail(f"v{i}", "asleep")
    deferrals.succeed()
    for i in range(OUTAGE_VIDEOS - 1):
        deferrals.fail(f"w{i}", "asleep")
        deferrals.fail("w0", "asleep")  # the same video again counts once
    with pytest.raises(PassingError, match=f"{OUTAGE_VIDEOS} videos in a row cannot be reached: asleep"):
        deferrals.fail("x", "asleep")
