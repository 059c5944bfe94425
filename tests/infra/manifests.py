"""The files of infra/, read for the tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.flow import metrics

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
KUBERNETES = INFRA / "kubernetes"
RAY_KINDS = ("RayCluster", "RayJob", "RayCronJob")
WITHOUT_SCHEMA = ("PodMonitor", "Kustomization")
"""Kinds that no schema on PyPI describes."""

METRICS = {name: metric.tags for name, metric in metrics.METRICS.items()}
"""The metrics of a run, with their tags. Ray puts `ray_` before the names."""
HISTOGRAMS = tuple(name for name, metric in metrics.METRICS.items() if metric.kind == "histogram")


def documents(*kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the content of every manifest for Kubernetes, or of those of some kinds."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if not kinds or document["kind"] in kinds:
                yield path.relative_to(ROOT).as_posix(), document


def read(path: str) -> dict[str, Any]:
    """Read a manifest with a single document."""
    return yaml.safe_load((INFRA / path).read_text())


def ray_job(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the spec of the RayJob in a manifest."""
    return {"RayJob": document["spec"], "RayCronJob": document["spec"].get("jobTemplate")}.get(document["kind"])


def ray_cluster(document: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of the RayCluster in a manifest."""
    job = ray_job(document)
    return job["rayClusterSpec"] if job else document["spec"]
