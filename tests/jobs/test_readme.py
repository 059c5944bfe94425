"""The commands that the README shows can be typed."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.errors import INTERRUPTED
from jobs.compact import compact
from jobs.shared.processing import QUARANTINED
from tests.builders import Film, Walker, publish

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_first_example_in_python_runs_as_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(Film(2.0, [Walker(0, 2, x=20), Walker(0, 2, x=400)]), [], str(tmp_path))
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "rollcall" in block]
    exec(code.replace("out/archive", str(tmp_path)), {})
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["file", "person_id"]
    assert [line.split()[1:3] for line in lines] == [["v.mp4", "1"], ["v.mp4", "2"]]


def test_the_examples_for_analysis_run_as_they_are_printed(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # for Polars; the test server has no certificate
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    publish(Film(3.0, [Walker(0, 3, x=20, age=30.0), Walker(0, 3, x=400, age=50.0)]), [], f"{bucket}/archive")
    compact(f"{bucket}/archive")
    section = README.partition("## Analysis\n")[2].partition("\n## ")[0]
    pointer, *examples = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(examples) == 3
    capsys.readouterr()
    printed, names = [], dict[str, Any]()
    for example in examples:
        names = {}
        exec(pointer.replace("s3://results", bucket) + example, names)
        printed.append(capsys.readouterr().out)
    assert names["busiest"]["len"].to_list() == [2] * 10
    with_pandas, with_duckdb, _ = printed
    assert re.search(r"M +2 +40\.0|F +2 +40\.0", with_pandas), with_pandas
    assert "/in/v.mp4" in with_duckdb
    assert re.search(r"[56]\.\d", with_duckdb), with_duckdb


def test_every_exit_status_is_told() -> None:
    statuses = {int(status) for status in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert {0, 1, 2, QUARANTINED} <= statuses <= {0, 1, 2, QUARANTINED, 4, 5, INTERRUPTED}
