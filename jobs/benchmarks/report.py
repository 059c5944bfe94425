"""The figures of a bench: a table for people, and JSON with all that is needed to judge and to repeat them."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import psutil
from rich.table import Table

from jobs.benchmarks.side_by_side import Spread, interrupted
from jobs.cli.console import console, say
from pipeline.models.gpu import card
from pipeline.version import rollcall_version

PACKAGES = (
    "torch",
    "ray",
    "av",
    "opencv-contrib-python-headless",
    "numpy",
    "pyarrow",
    "ultralytics",
    "boxmot",
    "torchcodec",
)
ROOT = Path(__file__).parents[2]
INTERRUPTED = "interrupted: these are the figures of the rounds that finished"
NOTHING = "interrupted before a round finished: there are no figures"
QUICK = "--quick: these figures show that the bench works, and mean nothing else"
BUSY_LOAD = 0.25
"""Load per core from which other work disturbs the times."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    case: the work that is done, by the name of each of its columns.
    way: the way in which it is done.
    figures: by name, as seconds or frames_per_second.
    """

    case: Mapping[str, str | float]
    way: str
    figures: Mapping[str, Spread]


@dataclass(slots=True)
class Report:
    """The result of a bench.

    name: of the bench.
    settings: the sizes and inputs that were chosen.
    rows: the figures of every case and way.
    ratios: figures that compare two ways, by what they say.
    facts: other figures.
    load_before: load of the machine when the bench began.
    partial: whether Ctrl-C ended the bench, so that rounds or cases are missing.
    quick: whether the sizes are those of --quick.
    """

    name: str
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, Spread] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    partial: bool = False
    quick: bool = False

    def plain(self) -> dict[str, Any]:
        """Return all figures for JSON, with the environment in which they were measured."""
        return {
            "benchmark": self.name,
            **({"partial": True} if self.partial else {}),
            "command": command_line(),
            "settings": {**self.settings, **({"quick": True} if self.quick else {})},
            "environment": environment() | {"load_before": round(self.load_before, 2), "load_after": _load()},
            "rows": [
                {**row.case, "way": row.way, "figures": {name: value.plain() for name, value in row.figures.items()}}
                for row in self.rows
            ],
            "ratios": {name: ratio.plain() for name, ratio in self.ratios.items()},
            "facts": self.facts,
        }

    @contextmanager
    def published(self, json_file: Path | None) -> Iterator[Self]:
        """Publish the report at the end of the block. At Ctrl-C, publish the figures of the rounds that finished, if
        there are some, and raise KeyboardInterrupt."""
        interrupted.clear()
        if not self.quick:
            _warn_of_load()
        try:
            yield self
        except KeyboardInterrupt:
            interrupted.set()
        self.partial = interrupted.is_set()
        if self.rows or not self.partial:
            self.publish(json_file)
        if self.partial:
            say(INTERRUPTED if self.rows else NOTHING)
            raise KeyboardInterrupt

    def publish(self, json_file: Path | None) -> None:
        """Print the table, and write the JSON if a file is named."""
        if self.quick:
            say(QUICK)
        if self.rows:
            console.print(_table(self.rows))
        for name, ratio in self.ratios.items():
            say(f"{name}: {ratio.text()}")
        for name, fact in self.facts.items():
            say(f"{name}: {fact_text(fact)}")
        if json_file:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(self.plain(), indent=1) + "\n")


def environment() -> dict[str, Any]:
    """Return the machine, the versions and the commit that shape the figures."""
    versions = {"rollcall": rollcall_version(), "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "card": card(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "commit": _commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command_line() -> str:
    """Return the command that was given, as a user repeats it."""
    words = sys.argv[1:]
    return shlex.join(["rollcall", *(words if words[:1] == ["bench"] else ["bench", *words])])


def fact_text(fact: Any) -> str:
    """Return a fact for people. Facts can hold facts."""
    if isinstance(fact, Mapping):
        return ", ".join(f"{name} {fact_text(value)}" for name, value in fact.items())
    return "none" if fact is None else str(fact)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    cases = list(dict.fromkeys(name for row in rows for name in row.case))
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    for name in (*cases, "way"):
        table.add_column(name)
    for name in figures:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        cells = [str(row.case.get(name, "")) for name in cases]
        table.add_row(*cells, row.way, *(row.figures[name].text() if name in row.figures else "" for name in figures))
    return table


def _warn_of_load() -> None:
    """Say so if the machine is busy with other work before a bench begins."""
    if _load() > BUSY_LOAD * (os.cpu_count() or 1):
        say(f"this machine is busy with other work (load {_load():.1f}): believe ratios and CPU seconds, not the clock")


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the code, with a + if files differ from it; None where it is no checkout."""
    with suppress(OSError, subprocess.CalledProcessError):
        asked = [["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]]
        commit, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in asked
        )
        return f"{commit}+" if changes else commit
    return None
