"""The page docs/benchmarks/tables.md, made from the figures that lie beside it:
`python -m jobs.benchmarks.page > docs/benchmarks/tables.md`."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.benchmarks.report import fact_text
from jobs.benchmarks.side_by_side import Spread

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"
OPENING = """\
# Tables of the benches

The code makes this page of the figures beside it: `python -m jobs.benchmarks.page > docs/benchmarks/tables.md`. Each
cell has the median of the repeats, and the lowest and the highest of them in brackets. [README.md](README.md) says what
they mean.
"""


def page(folder: Path = FOLDER) -> str:
    """Return the text of the page."""
    return "\n".join([OPENING, *(line for path in sorted(folder.glob("*.json")) for line in _section(path))])


def _section(path: Path) -> Iterator[str]:
    report = json.loads(path.read_text())
    partial = " It was interrupted, so some rounds or cases are missing." if report.get("partial") else ""
    quick = " Its sizes are those of `--quick`, so the figures mean nothing." if report["settings"].get("quick") else ""
    circumstances = _circumstances(report["environment"]) + partial + quick
    yield from (f"## {path.stem}", "", f"`{report['command']}`", "", circumstances, "")
    for rows in _alike(report["rows"]):
        cases = [name for name in rows[0] if name not in ("way", "figures")]
        figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
        yield from _table(
            [*cases, "way", *(name.replace("_", " ") for name in figures)],
            (
                [*(str(row[name]) for name in (*cases, "way")), *(_cell(row["figures"].get(name)) for name in figures)]
                for row in rows
            ),
        )
    if report["ratios"]:
        yield from _table(["ratio", ""], ([name, _cell(ratio)] for name, ratio in report["ratios"].items()))
    for name, fact in report["facts"].items():
        yield f"{name}: {fact_text(fact)}"
        yield ""


def _circumstances(environment: Mapping[str, Any]) -> str:
    """Return the machine, its load, the commit and the versions as a sentence."""
    card = "" if environment["card"] == "none" else f", {environment['card']}"
    machine = f"{environment['processor']}, {environment['num_cores']} cores{card}"
    load = f"load {environment['load_before']:g} before, {environment['load_after']:g} after"
    commit = f"commit {environment['commit']}, {environment['measured_at'][:10]}"
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return f"{machine}; {load}; {commit}; {versions}."


def _alike(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Return the rows in groups that have the same names of cases and, for a report of several kinds, the same kind."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((tuple(row), row.get("what")), []).append(row)
    return groups.values()


def _table(names: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    for cells in (names, ["---"] * len(names), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _cell(figure: Mapping[str, Any] | None) -> str:
    return Spread(tuple(figure["values"])).text() if figure else ""


if __name__ == "__main__":
    sys.stdout.write(page())
