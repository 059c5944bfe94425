"""Metrics without a cluster, and what is handed on when there is one."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipeline.flow import metrics
from pipeline.flow.metrics import METRICS, Metric


class Exporter:
    def __init__(self) -> None:
        self.got: list[tuple[str, float, dict[str, str]]] = []

    def record(self, name: str, metric: Metric, value: float, tags: dict[str, str]) -> None:
        self.got.append((name, value, tags))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a place for an exporter. While it is empty, this process belongs to no cluster."""
    place: dict[str, Any] = {"exporter": None}
    monkeypatch.setattr(metrics, "_exporter", lambda: place["exporter"])
    monkeypatch.setattr(metrics, "_waiting", {})
    return place


def test_counts_and_the_last_values_wait_for_the_cluster(exporter: dict[str, Any]) -> None:
    for amount in (2, 0, 3):
        metrics.count("rollcall_frames_total", amount)
    metrics.set_value("rollcall_deferred", 4)
    metrics.set_value("rollcall_deferred", 1)
    metrics.observe("rollcall_stage_seconds", 1.0, stage="observe")
    exporter["exporter"] = there = Exporter()
    metrics.count("rollcall_videos_total", outcome="done")
    assert sorted(there.got[:2]) == [("rollcall_deferred", 1, {}), ("rollcall_frames_total", 5, {})]
    assert there.got[2:] == [("rollcall_videos_total", 1.0, {"outcome": "done"})]


@pytest.mark.parametrize("ray", [None, ModuleType("ray"), SimpleNamespace(is_initialized=lambda: False)])
def test_a_ray_that_is_not_there_or_still_being_imported_exports_nothing(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_waiting", {})
    monkeypatch.setitem(metrics.sys.modules, "ray", ray)
    metrics.count("rollcall_bytes_read_total", 7)
    metrics.deliver()
    assert metrics._waiting == {("rollcall_bytes_read_total", ()): 7}


@pytest.mark.parametrize(
    ("call", "name", "tags"),
    [
        (metrics.count, "rollcall_deferred", {}),
        (metrics.count, "rollcall_videos_total", {}),
        (metrics.count, "rollcall_videos_total", {"outcome": "done", "video": "v"}),
        (metrics.set_value, "rollcall_frames_total", {}),
    ],
)
def test_a_wrong_kind_or_tag_is_a_bug(call: Any, name: str, tags: dict[str, str], exporter: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is a"):
        call(name, 1.0, **tags)


def test_names_and_tags_are_those_that_prometheus_takes() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("rollcall_")
        assert name.replace("_", "").isalnum()
        assert name.endswith("_total") == (metric.kind == "counter")
        assert set(metric.tags) <= {"pool", "stage", "kind", "outcome"}
        assert metric.help.endswith(".")
