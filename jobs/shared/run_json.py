"""The facts about a run in run.json, which every command that makes tables writes last."""

import json
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipeline.config import Config
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.version import rollcall_version

NAMED_VERSIONS = ("ray", "torch", "ultralytics", "boxmot", "av", "numpy", "pyarrow", "opencv-contrib-python-headless")


def new_run_id(now: datetime | None = None) -> str:
    """Return an id for a run that begins now: its UTC time, and how much of the second has passed, in 65,536ths. So the
    ids of runs are in the order in which they began."""
    now = now or datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}-{(now.microsecond << 16) // 1_000_000:04x}"


def run_facts(
    index: OutputIndex,
    config: Config,
    config_id: str,
    models: Mapping[str, Any],
    started_at: datetime,
    status: str,
) -> dict[str, Any]:
    """Return the facts that run.json holds about any run: its end, versions, configuration, and the videos of the
    output.

    status: done, interrupted or failed.
    """
    counts = Counter(row["status"] for row in index.videos.values())
    return {
        "status": status,
        "started_at": started_at.isoformat(),
        "seconds": round((datetime.now(UTC) - started_at).total_seconds(), 3),
        "versions": _versions(),
        "config_id": config_id,
        "configuration": config.plain(),
        "models": models,
        "lease": None if index.store.guard is None else index.store.guard.strength,
        "videos": {"done": counts["done"], "quarantined": counts["quarantined"]},
    }


def last_success(store: Store) -> str | None:
    """Return the time of the end of the last complete run of an output, as its run.json states it, or None."""
    try:
        return json.loads(store.read("run.json"))["last_success_at"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _versions() -> dict[str, str]:
    """Return the versions of the software that a run depends on."""
    named = {name: version(name) for name in NAMED_VERSIONS}
    return {"rollcall": rollcall_version(), "python": platform.python_version()} | named
