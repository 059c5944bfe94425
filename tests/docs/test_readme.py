"""The commands that the README shows can be typed."""

import re
from pathlib import Path

import pytest

from jobs.cli.errors import INTERRUPTED
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


def test_every_exit_status_is_told() -> None:
    statuses = {int(status) for status in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert {0, 1, 2, QUARANTINED} <= statuses <= {0, 1, 2, QUARANTINED, 4, 5, INTERRUPTED}


def test_every_page_is_listed_and_the_readme_stays_short() -> None:
    pages = [path.name for path in (Path(__file__).parents[2] / "docs").iterdir() if path.suffix in (".md", ".ipynb")]
    listed = README.partition("## Documentation\n")[2]
    assert [name for name in pages if f"(docs/{name})" not in listed] == []
    assert len(README.splitlines()) < 330
