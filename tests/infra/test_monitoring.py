"""Every expression of the dashboard and of the alerts is PromQL, and asks for metrics that exist."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray
from promql_parser import AggregateExpr, VectorSelector

from tests.infra.manifests import HISTOGRAMS, INFRA, METRICS, read

DASHBOARD = json.loads((INFRA / "grafana/dashboards/rollcall.json").read_text())
RULES = [rule for group in read("prometheus/alerts.yaml")["groups"] for rule in group["rules"]]
RAY = {
    "ray_node_gpus_utilization",
    "ray_node_gpus_available",
    "ray_node_cpu_utilization",
    "ray_node_cpu_count",
    "ray_node_mem_used",
    "ray_node_mem_total",
    "ray_object_store_used_memory",
    "ray_spill_manager_objects_bytes",
}
"""The metrics of Ray itself that we use."""
OF_RAY = ("NodeAddress", "le")
GRAFANA = {"$__rate_interval": "5m", "$__range": "1h"}


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}, {target['refId']}", target["expr"]
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


def parsed(expression: str) -> Any:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def nodes(expression: Any) -> Iterator[Any]:
    """Yield an expression and all its parts."""
    yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        part = getattr(expression, name, None)
        if part is not None and not isinstance(part, str | int | float):
            yield from nodes(part)
    for part in getattr(expression, "args", None) or []:
        yield from nodes(part)


def selectors(expression: str) -> list[VectorSelector]:
    return [node for node in nodes(parsed(expression)) if isinstance(node, VectorSelector)]


def tags_of(metric: str) -> tuple[str, ...] | None:
    """Return the tags of a series, or None if no metric has this name."""
    if metric in RAY:
        return ()
    for name, tags in METRICS.items():
        series = [f"ray_{name}{end}" for end in (("_bucket", "_sum", "_count") if name in HISTOGRAMS else ("",))]
        if metric in series:
            return tags
    return None


ALL = list(expressions())


@pytest.mark.parametrize(("place", "expression"), ALL, ids=[place for place, _ in ALL])
def test_every_expression_asks_for_metrics_and_tags_that_exist(place: str, expression: str) -> None:
    found = selectors(expression)
    assert found
    tags: set[str] = set()
    for selector in found:
        assert selector.name is not None
        own = tags_of(selector.name)
        assert own is not None, f"no metric is called {selector.name}"
        tags |= set(own)
        assert {matcher.name for matcher in selector.matchers.matchers} <= set(own)
    for node in nodes(parsed(expression)):
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= tags | set(OF_RAY)


def test_a_misspelt_metric_is_noticed() -> None:
    with pytest.raises(AssertionError, match="rollcall_frame_total"):
        test_every_expression_asks_for_metrics_and_tags_that_exist("", "sum(rate(ray_rollcall_frame_total[5m]))")


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        str(selector.name)
        for place, expression in ALL
        if place.startswith("panel")
        for selector in selectors(expression)
    }
    absent = [name for name in METRICS if not any(series.startswith(f"ray_{name}") for series in shown)]
    assert not absent


def test_ray_has_the_metrics_of_its_own_that_we_use() -> None:
    """Some are made in Python; the names of the others are in Ray's compiled library."""
    home = Path(ray.__file__).parent
    text = b"".join(
        path.read_bytes()
        for path in (
            home / "dashboard/modules/reporter/reporter_agent.py",
            home / "dashboard/modules/reporter/gpu_providers.py",
            home / "_raylet.so",
            home / "core/src/ray/raylet/raylet",
        )
        if path.is_file()
    )
    assert [name for name in sorted(RAY) if name.removeprefix("ray_").encode() not in text] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "action"}
    if "for" in rule:
        promql_parser.parse_duration(rule["for"])


def test_every_panel_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    source = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    services = read("compose.yaml")["services"]
    assert source["url"] == "http://prometheus:9090"
    folder = read("grafana/provisioning/dashboards/rollcall.yaml")["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in services["grafana"]["volumes"]


def test_prometheus_reads_the_alerts_and_asks_the_head_for_its_nodes() -> None:
    settings = read("prometheus/prometheus.yaml")
    assert all((INFRA / "prometheus" / name).is_file() for name in settings["rule_files"])
    discovery = settings["scrape_configs"][0]["http_sd_configs"][0]
    assert discovery["url"] == "http://head:8265/api/prometheus/sd"
    reporter = Path(ray.__file__).parent / "dashboard/modules/reporter/reporter_head.py"
    assert '"/api/prometheus/sd"' in reporter.read_text()
