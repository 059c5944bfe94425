"""The examples of docs/analysis.md run as they are printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.compact import compact
from tests.builders import Film, Walker, publish

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()


def test_the_examples_for_analysis_run_as_they_are_printed(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # for Polars; the test server has no certificate
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    publish(Film(3.0, [Walker(0, 3, x=20, age=30.0), Walker(0, 3, x=400, age=50.0)]), [], f"{bucket}/archive")
    compact(f"{bucket}/archive")
    pointer, *examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
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
