"""The examples of docs/python.md run as they are printed."""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from PIL import Image

import rollcall
from pipeline import rows
from tests.builders import Film, Walker, publish

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()


def test_the_examples_run_as_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mpl.use("Agg")
    film = Film(2.0, [Walker(0, 2, x=20, age=30.0), Walker(0, 2, x=400)])
    publish(film, [], str(tmp_path / "out/archive"), "biometrics.keep=true", video_id="clip")
    pictures = tmp_path / "out/archive/export/pictures/clip.mp4"
    pictures.mkdir(parents=True)
    Image.new("RGB", (8, 16)).save(pictures / "0002.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    printed = capsys.readouterr().out
    assert "1 video, 2 persons>" in printed
    assert "2 persons at most in one frame" in printed
    assert (tmp_path / "timeline.png").stat().st_size > 1000


def test_every_method_is_listed_and_every_listed_one_exists() -> None:
    listed = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    methods = {name for name in vars(rollcall.Output) if not name.startswith(("_", "plot"))} - {
        "uri",
        "files",
        "pictures",
    }
    assert listed == methods
    assert methods - {"table", "arrow"} <= rows.PUBLISHED.keys()
