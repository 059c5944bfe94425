"""The command that tests and measures on a machine with a card, without one."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import load
from tests.commands import ROOT
from tests.gpu import check


class Told(check.Check):
    """Runs nothing. commands: the words of each command."""

    commands: list[list[str]] = []  # noqa: RUF012  (one for all tests)

    def run(self, name: str, words: Sequence[str], most_s: float) -> str:
        self.commands.append([name, *words])
        if "--json" in words:
            figures = {"analysed frames per s": {"median": 123.456}, "seconds": {"median": 1}}
            Path(words[-1]).write_text(json.dumps({"rows": [{"way": "crowded 720p", "figures": figures}]}))
        return "tests/gpu/x.py::y PASSED\nE   1 != 2\n1 failed, 3 passed in 2 s\n"


def test_one_command_runs_every_test_of_cards_and_every_way(tmp_path: Path) -> None:
    Told.commands = []
    assert check.main([str(tmp_path), "--videos", "3", "--set", "observe.fps=4"], Told) == 0
    groups = [command for command in Told.commands if command[1] == "pytest"]
    named = {word for command in groups for word in command if word.endswith(".py")}
    assert {f"tests/gpu/{path.name}" for path in (ROOT / "tests/gpu").glob("test_*.py")} <= named
    assert all((ROOT / name).is_file() for name in named)
    benches = [command for command in Told.commands if command[1] == "jobs.bench"]
    assert [name for name, *_ in benches] == [f"bench-{way}" for way in check.WAYS]
    assert all(command[-6:-2] == ["--videos", "3", "--set", "observe.fps=4"] for command in benches)
    summary = (tmp_path / "summary.txt").read_text()
    assert "pool: crowded 720p: analysed frames per s 123.5" in summary
    assert "runs: 1 failed, 3 passed in 2 s" in summary


def test_the_ways_are_configurations_of_a_card() -> None:
    ways = {way: load(settings=settings).on_device("cuda", "card") for way, settings in check.WAYS.items()}
    assert {way: config.compute.pixels for way, config in ways.items()} == {
        "rgb": "rgb",
        "planes": "planes",
        "alone": "rgb",
        "pool": "rgb",
    }
    assert {way: config.run.observe.spans for way, config in ways.items()} == {
        "rgb": 6,
        "planes": 6,
        "alone": 1,
        "pool": 6,
    }


def test_a_part_that_takes_too_long_is_interrupted_and_one_without_time_does_not_begin(tmp_path: Path) -> None:
    whole = check.Check(tmp_path, 60)
    assert whole.run("long", ["http.server", "--bind", "127.0.0.1", "0"], check.LEAST_S - 1) == ""
    assert "long: no time left" in whole.lines[0]
    check_lines = check.Check(tmp_path, 60)
    check.LEAST_S, before = 0, check.LEAST_S
    try:
        check_lines.run("long", ["http.server", "--bind", "127.0.0.1", "0"], 0.5)
    finally:
        check.LEAST_S = before
    assert "long: status interrupted" in check_lines.lines[0]
