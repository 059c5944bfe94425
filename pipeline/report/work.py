"""The work behind an output: what is not done and why, the time and cost of stages, the models."""

from dataclasses import dataclass

from pipeline.report.inputs import ReportTables, Row
from pipeline.text import printable

DEFERRED = "deferred: "
"""The beginning of the reason of a source that a run has left to the next one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A source or video that is not done: its name, stage and reason."""

    name: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The work of a stage in all runs: s of all workers, s on GPUs, cost (None if no price is known)."""

    name: str
    seconds: float
    gpu_seconds: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the last run."""

    role: str
    name: str
    sha256: str
    licence: str


def problems(given: ReportTables, kind: str) -> list[Problem]:
    """Return the current sources that are quarantined or deferred."""
    problems = []
    for row in sorted(given.sources, key=lambda row: row["uri"]):
        is_wanted = is_deferred(row) if kind == "deferred" else row["status"] == "quarantined"
        if row["current"] and is_wanted:
            reason = printable((row["reason"] or "").removeprefix(DEFERRED))
            problems.append(Problem(printable(row["uri"]), row["stage"] or "", reason))
    return problems


def is_deferred(row: Row) -> bool:
    return (row["reason"] or "").startswith(DEFERRED)


def stages_of(given: ReportTables) -> list[Stage]:
    """Return the work by stage in all runs, or in the last one if `runs` does not have it by stage."""
    spent: dict[str, list[float | None]] = {}
    rows: list[Row] = [stage for stages in given.runs["stages"].to_pylist() for stage in stages or ()]
    if not rows:
        rows = [{"stage": name} | dict(facts) for name, facts in (given.run.get("stages") or {}).items()]
    for row in rows:
        sums = spent.setdefault(row["stage"], [0.0, 0.0, None])
        sums[0] = (sums[0] or 0.0) + (row.get("seconds") or 0.0)
        sums[1] = (sums[1] or 0.0) + (row.get("gpu_seconds") or 0.0)
        if row.get("cost") is not None:
            sums[2] = (sums[2] or 0.0) + row["cost"]
    ordered = sorted(spent.items(), key=lambda item: -(item[1][0] or 0.0))
    return [Stage(name, round(seconds or 0, 3), round(gpu or 0, 3), cost) for name, (seconds, gpu, cost) in ordered]


def models_of(run: Row) -> list[Model]:
    """Return the models of a run, as its run.json states them."""
    return [
        Model(role, str(facts["name"]), str(facts.get("sha256") or ""), str(facts.get("licence") or ""))
        for role, facts in (run.get("models") or {}).items()
    ]


def estimator_of(run: Row) -> tuple[str, str | None] | None:
    """Return name and hash of the estimator of a run, or None if it has none or consists of parts."""
    facts = (run.get("models") or {}).get("estimator")
    return None if facts is None else (str(facts["name"]), facts.get("sha256"))
