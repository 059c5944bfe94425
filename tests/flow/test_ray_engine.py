"""Workers that die during a run, without Ray."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray.exceptions

from pipeline.flow import ray_engine
from pipeline.flow.events import VideoFailed
from pipeline.video.job import VideoJob
from tests.builders import configured


@pytest.mark.parametrize("death", [ray.exceptions.WorkerCrashedError(), ray.exceptions.OutOfMemoryError("memory")])
def test_a_video_whose_reduce_dies_over_and_over_is_given_up_and_the_run_goes_on(
    death: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(_: Any) -> Any:
        raise ray.exceptions.RayTaskError("reduce", "Traceback …", death).as_instanceof_cause()

    monkeypatch.setattr(ray_engine, "ray", SimpleNamespace(get=get, wait=lambda waiting, **_: (waiting, [])))
    under_way = ray_engine._Run([], configured())
    under_way._publishing = {"reference": cast(VideoJob, SimpleNamespace(video_id="v"))}
    (event,) = under_way._published(0)
    reason = "its worker died 4 times (memory, or a crash)"
    assert event == VideoFailed(video_id="v", stage="reduce", reason=reason, kind="WorkerDied")
