"""The words for numbers of things, and the display of names."""

import io
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from rich.console import Console, Group
from rich.table import Table

from jobs.cli import console
from tests.patience import PATIENCE_S, eventually


def row(*, fps: float | None = 25.0, num_frames: int = 100, duration_s: float = 4.0) -> dict[str, Any]:
    return {"fps": fps, "num_frames": num_frames, "duration_s": duration_s}


VIDEO, PICTURE = row(), row(fps=None, num_frames=1, duration_s=0.0)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "0 videos"),
        ([VIDEO], "1 video"),
        ([VIDEO, VIDEO], "2 videos"),
        ([PICTURE], "1 picture"),
        ([PICTURE] * 5, "5 pictures"),
        ([VIDEO, PICTURE, PICTURE], "1 video and 2 pictures"),
    ],
)
def test_pictures_are_no_videos_and_one_of_a_thing_is_one(rows: list[dict[str, Any]], text: str) -> None:
    assert console.contents(rows) == text


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
    monkeypatch.setattr(console, "PATIENCE_S", PATIENCE_S)
    with console.counter(lambda done: f"{console.count(done, 'file')} found") as advance:
        advance()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(console, "PATIENCE_S", 0.001)
    lines: list[str] = []
    monkeypatch.setattr(console, "say", lines.append)
    with console.counter(lambda done: f"{console.count(done, 'file')} found") as advance:
        for _ in range(1200):
            advance()
        eventually(lambda: lines[-1:] == ["1,200 files found"])
        advance()
        eventually(lambda: lines[-1:] == ["1,201 files found"])
    assert len(set(lines)) == len(lines)


def test_the_thread_that_tells_ends_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE_S", 0.001)
    before, tellers = set(threading.enumerate()), set[threading.Thread]()

    def fail() -> None:
        with console.counter(str):
            tellers.update(set(threading.enumerate()) - before)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert [thread.is_alive() for thread in tellers] == [False]


LONG_TABLE = """
from rich.console import Console, Group
from rich.table import Table
from jobs.cli.console import console
table = Table(box=None, show_header=False)
table.add_row("changed", "why " * 60, "end")
console.print(table)
"""


def test_a_row_of_a_table_stays_one_line_in_a_log() -> None:
    command = [sys.executable, "-c", LONG_TABLE]
    process = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert len(process.stdout.splitlines()) == 1
    assert process.stdout.rstrip().endswith("end")


ODD = "a[red]b[/] :smile: \x1b[31m\nc"
SHOWN = r"a[red]b[/] :smile: \x1b[31m\nc"


def test_names_are_shown_as_they_are_in_lines_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"quarantined: {ODD}")
    table = Table("source", ODD, box=None)
    table.add_row("1", ODD)
    console.console.print(table)
    line, header, row = capsys.readouterr().out.splitlines()
    assert line == f"quarantined: {SHOWN}"
    assert header.endswith(f"{SHOWN} ")
    assert row.endswith(f"{SHOWN} ")


def test_a_few_names_stand_for_many() -> None:
    assert console.few([f"/in/{number}.mp4" for number in range(5)]) == "0.mp4, 1.mp4, 2.mp4, 3.mp4, 4.mp4"
    assert console.few([f"s3://b/{number}.mp4" for number in range(7)]).endswith("4.mp4 and 2 more")


def test_a_long_name_is_shown_without_its_middle() -> None:
    assert console.last(f"/in/{'x' * 80}") == "x" * 80
    assert console.last(f"/in/{'x' * 240}.mp4") == f"{'x' * 40}…{'x' * 36}.mp4"


def test_a_terminal_that_lacks_a_letter_ends_nothing() -> None:
    code = (
        "import typer\nfrom jobs.cli.console import say\nfrom jobs.cli.errors import run_command\n"
        "from pipeline.errors import UserError\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\n"
        "def tell():\n    say('käse-日本.jpg caf\\udce9'); raise UserError('no 日本\\x1b[31m')\n"
        "run_command(app)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "latin-1:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, b"k\xe4se-\\u65e5\\u672c.jpg caf\\xe9\n")
    assert done.stderr == b"rollcall: no \\u65e5\\u672c\\x1b[31m\n"


def test_a_terminal_shows_what_is_found_below_the_bar() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=60)
    bar = console.LiveProgress(console=terminal)
    meter = console.Meter(2, 100, bar)
    assert bar.lines == ["loading models"]
    meter.add_frames(60, 7)
    assert bar.lines[0].startswith("0/2 videos, 7 detections, 60 frames, ")
    meter.add_video("a[red]\x1b.mp4", 3)
    meter.add_frames(40, 1)
    assert bar.lines[0].startswith("1/2 videos, 3 persons, 8 detections, 100 frames, ")
    assert bar.lines[0].endswith(", tracking and linking")
    assert bar.lines[1] == "a[red]\x1b.mp4: 3 persons"
    terminal.print(Group(*bar.get_renderables()))
    shown = terminal.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(shown) == 3
    assert shown[1].endswith("…")
    assert r"a[red]\x1b.mp4: 3 persons" in shown[2]
