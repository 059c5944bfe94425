"""What a person is told of numbers of things."""

import os
import subprocess
import sys
import threading
from threading import Event
from typing import Any

import pytest

from jobs import console


def row(*, fps: float | None = 25.0, num_frames: int = 100, duration_s: float = 4.0) -> dict[str, Any]:
    return {"fps": fps, "num_frames": num_frames, "duration_s": duration_s}


VIDEO, PICTURE = row(), row(fps=None, num_frames=1, duration_s=0.0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "0 videos"),
        ([VIDEO], "1 video"),
        ([VIDEO, VIDEO], "2 videos"),
        ([PICTURE], "1 picture"),
        ([PICTURE] * 5, "5 pictures"),
        ([VIDEO, PICTURE, PICTURE], "1 video and 2 pictures"),
    ],
)
def test_pictures_are_no_videos_and_one_of_a_thing_is_one(rows: list[dict[str, Any]], told: str) -> None:
    assert console.contents(rows) == told


def test_a_picture_has_no_length() -> None:
    assert console.length(VIDEO) == "4.0 s"
    assert console.length(PICTURE) == "picture"
    assert console.length(row(fps=25.0, num_frames=1, duration_s=0.04)) == "0.0 s"


def test_a_slow_rate_is_not_told_as_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with console.meter(2, 100) as meter:
        now[0] = 40.0
        meter.add_frames(10)
        meter.add_video()
        meter.add_video()
    assert capsys.readouterr().out.splitlines() == [
        "0/2 videos, 10 frames, 0.2 frames/s, about 6 min 00 s left",
        "2/2 videos, 10 frames, 0.2 frames/s",
    ]
    with console.meter(3, 0, "pictures") as meter:
        for _ in range(3):
            meter.add_video()
    assert capsys.readouterr().out.splitlines() == ["3/3 pictures"]


def test_only_work_that_takes_long_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.patiently(lambda done: f"{console.count(done, 'file')} found") as advance:
        advance()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(console, "PATIENCE_S", 0.001)
    said = Event()
    monkeypatch.setattr(console, "say", lambda line: (print(line), said.set()))
    with console.patiently(lambda done: f"{console.count(done, 'file')} found") as advance:
        for _ in range(1200):
            advance()
        assert said.wait(60)
        said.clear()
        advance()
        assert said.wait(60)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1,201 files found"
    assert len(set(lines)) == len(lines)


def test_the_thread_that_tells_ends_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE_S", 0.001)
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"), console.patiently(str):
        raise ValueError("broken")
    assert threading.active_count() == before


LONG_TABLE = """
from rich.table import Table
from jobs.console import console
table = Table(box=None, show_header=False)
table.add_row("changed", "why " * 60, "end")
console.print(table)
"""


def test_a_row_of_a_table_stays_one_line_in_a_log() -> None:
    command = [sys.executable, "-c", LONG_TABLE]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert len(told.stdout.splitlines()) == 1
    assert told.stdout.rstrip().endswith("end")
