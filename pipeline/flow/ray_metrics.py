"""Metrics of this process, exported by Ray."""

from functools import cache

from ray.util.metrics import Counter, Gauge, Histogram

from pipeline.flow.metrics import SECONDS, Metric


def record(name: str, metric: Metric, value: float, tags: dict[str, str]) -> None:
    """Record a value of a metric. Without the agent of ray[default] nothing happens."""
    made = _made(name, metric)
    if isinstance(made, Counter):
        made.inc(value, tags)
    elif isinstance(made, Gauge):
        made.set(value, tags)
    else:
        made.observe(value, tags)


@cache
def _made(name: str, metric: Metric) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(name, metric.help, metric.tags)
    if metric.kind == "gauge":
        return Gauge(name, metric.help, metric.tags)
    return Histogram(name, metric.help, list(SECONDS), metric.tags)
