"""The feed of a map on Ray, without Ray."""

from typing import cast

import pyarrow as pa
import pytest
import ray

from pipeline.flow.ray_feed import _Feed
from pipeline.planning.spans import FacesRow, SpanRow


def test_a_task_makes_one_table_of_each_row_in_order_as_often_as_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    rows = [SpanRow("v", "/in/v.mp4", 0, 2, (0, 1), (1,), "{}"), FacesRow("w", "/in/w.mp4", 0, -1, "key")]
    (task,) = _Feed(rows).get_read_tasks(1)
    for _ in range(2):
        tables = cast(list[pa.Table], list(task.read_fn()))
        assert [table.to_pylist()[0] for table in tables] == [
            {
                **{"video_id": "v", "uri": "/in/v.mp4", "first_cell": 0, "end_cell": 2},
                **{"borders": [0, 1], "durable": [1], "probe": "{}"},
            },
            {"video_id": "w", "uri": "/in/w.mp4", "first_cell": 0, "end_cell": -1, "enriched": "key"},
        ]
