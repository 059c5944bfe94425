"""The metrics of a run, for Prometheus. Ray exports them on the metrics port of each node, with `ray_` before a name.

Tags have few values each: never a video. Without a cluster they cost nothing.
"""

import sys
import threading
from dataclasses import dataclass
from typing import Any, Literal

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
"""Borders of the buckets of a duration, in seconds."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    kind: counter, gauge or histogram.
    help: text for Prometheus.
    tags: names of its tags.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    tags: tuple[str, ...] = ()


METRICS = {
    "rollcall_frames_total": Metric("counter", "Frames of the chunks that have become durable."),
    "rollcall_chunks_total": Metric("counter", "Chunks by outcome: done or failed.", ("outcome",)),
    "rollcall_videos_total": Metric("counter", "Videos by outcome: done, quarantined or deferred.", ("outcome",)),
    "rollcall_retries_total": Metric(
        "counter", "Requests and chunks that were tried again, by the kind of the failure.", ("kind",)
    ),
    "rollcall_gpu_seconds_total": Metric("counter", "Seconds of GPUs, by stage.", ("stage",)),
    "rollcall_stage_seconds": Metric("histogram", "Seconds of a stage for one chunk or video.", ("stage",)),
    "rollcall_in_flight": Metric("gauge", "Chunks that a worker has taken and not finished."),
    "rollcall_deferred": Metric("gauge", "Sources that this run leaves to the next one."),
    "rollcall_lease_age_s": Metric("gauge", "Seconds since the lease of the output was renewed."),
    "rollcall_last_success_timestamp_s": Metric("gauge", "Unix time at which the last complete run ended."),
    "rollcall_bytes_read_total": Metric("counter", "Bytes read from object stores."),
}
"""All metrics by name, without the `ray_` that Ray puts before it."""

_waiting: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
"""Counts and values from the time before this process belonged to a cluster."""
_waiting_lock = threading.Lock()


def count(name: str, amount: float = 1.0, **tags: str) -> None:
    """Add to a counter. 0 changes nothing."""
    _give("counter", name, amount, tags)


def set_value(name: str, value: float, **tags: str) -> None:
    """Set a gauge."""
    _give("gauge", name, value, tags)


def observe(name: str, value: float, **tags: str) -> None:
    """Add a value to a histogram."""
    _give("histogram", name, value, tags)


def deliver() -> None:
    """Hand on what was counted before this process belonged to a cluster."""
    if not _waiting or (exporter := _exporter()) is None:
        return
    with _waiting_lock:
        waiting = dict(_waiting)
        _waiting.clear()
    for (name, tags), value in waiting.items():
        exporter.record(name, METRICS[name], value, dict(tags))


def _give(kind: str, name: str, value: float, tags: dict[str, str]) -> None:
    metric = METRICS[name]
    if metric.kind != kind or set(tags) != set(metric.tags):
        raise ValueError(f"{name} is a {metric.kind} with the tags {metric.tags}")
    if kind == "counter" and value <= 0:
        return
    if (exporter := _exporter()) is not None:
        deliver()
        exporter.record(name, metric, value, tags)
    elif kind != "histogram":  # there, a sum says nothing
        key = (name, tuple(sorted(tags.items())))
        with _waiting_lock:
            _waiting[key] = value + (_waiting.get(key, 0.0) if kind == "counter" else 0.0)


def _exporter() -> Any:
    """Return the module that exports metrics if this process belongs to a cluster, else None."""
    # Another thread may be importing Ray at this moment, and then it has no such function yet.
    is_initialized = getattr(sys.modules.get("ray"), "is_initialized", None)
    if is_initialized is None or not is_initialized():
        return None
    from pipeline.flow import ray_metrics

    return ray_metrics
