"""The examples in Python, SQL and YAML of the README and of smaller pages run as they are printed."""

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tests.builders import Film, Walker, publish
from tests.docs.pages import PAGES


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def test_the_tables_of_the_readme_are_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path / "out" / "archive"), video_id="clip")
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks("README.md", "python") if "read_csv" in block]
    *_, last = code.splitlines()
    names: dict[str, Any] = {}
    exec(code + f"\ncsv = {last}", names)
    assert len(names["csv"]) == 50


def test_lines_and_zones_are_counted_as_their_page_says(tmp_path: Path) -> None:
    (configuration,) = blocks("docs/crossings.md", "yaml")
    drawn = yaml.safe_load(configuration)["crossings"]
    settings = [f"crossings.{knob}={json.dumps(value)}" for knob, value in drawn.items()]
    publish(Film(6.0, [Walker(0, 6, x=200, speed=40.0, age=30.0)]), [], str(tmp_path), *settings)
    (code,) = blocks("docs/crossings.md", "python")
    names: dict[str, Any] = {"URI": str(tmp_path)}
    exec(code, names)
    assert names["people"][["line", "direction", "kind"]].to_numpy().tolist()[0] == ["counter", "in", "zone"]
    assert names["people"]["age"].notna().all()


def test_failures_are_counted_from_events_as_their_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out" / "archive" / "_events" / "run"
    folder.mkdir(parents=True)
    event = {"ts": "2026-01-01T00:00:00Z", "event": "chunk_failed", "kind": "DataError", "stage": "observe"}
    lines = [event | {"level": level} for level in ("error", "error", "info")]
    (folder / "driver.0000.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.chdir(tmp_path)
    (query,) = blocks("docs/events.md", "sql")
    counts = duckdb.execute(query).fetchall()
    assert [row[:3] for row in counts] == [("DataError", "observe", 2)]
