"""The answer to a wrong command line, and help on narrow screens."""

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.main import app as rollcall


class Shape(StrEnum):
    ROUND = "round"
    FLAT = "flat"


app = typer.Typer(**PLAIN)


@app.callback()
def _group() -> None:
    pass


@app.command()
def bake(
    dough: Annotated[str, typer.Argument(help="What to bake. More of it follows.")],
    minutes: Annotated[int, typer.Option(min=1, max=90)] = 30,
    share: Annotated[list[float] | None, typer.Option(min=0)] = None,
    shape: Annotated[Shape, typer.Option()] = Shape.ROUND,
    turn: Annotated[bool, typer.Option()] = False,
    oven: Annotated[str | None, typer.Option("--oven-of-the-house", help="Which.")] = None,
) -> None:
    """Bake."""
    raise typer.Exit(7 if turn else 0)


def answer(app: typer.Typer, line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["rollcall", *line.split()])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # Typer names a package that was started by -m
    with pytest.raises(SystemExit) as end:
        run_command(app)
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("line", "line_on_stderr"),
    [
        ("bakes", "there is no command bakes; did you mean bake?"),
        ("fry", "there is no command fry; `rollcall --help` shows what there is"),
        ("bake rye --minute 3", "bake: there is no option --minute; did you mean --minutes?"),
        ("bake rye --zzz", "bake: there is no option --zzz; `rollcall bake --help` shows what there is"),
        ("bake", "bake: DOUGH is missing (what to bake); `rollcall bake --help` shows what there is"),
        ("bake rye --minutes", "--minutes needs a value; write one behind it"),
        ("bake rye --turn=yes", "--turn takes no value; leave it out"),
        ("bake rye --minutes long", "bake: --minutes must be a whole number from 1 to 90, got long; "),
        ("bake rye --minutes 91", "bake: --minutes must be a whole number from 1 to 90, got 91; "),
        ("bake rye --share half", "bake: --share must be a number of at least 0, got half; "),
        ("bake rye --shape square", "bake: --shape must be one of round, flat, got square; "),
        ("bake rye bread", "bake: bread: nothing more is taken here; put a name with spaces into quotes"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_where_and_what_to_do(
    line: str, line_on_stderr: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(app, line, monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"rollcall: {line_on_stderr}")
    assert captured.err.count("\n") == 1


def test_a_command_keeps_its_own_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(app, "bake rye", monkeypatch) == 0
    assert answer(app, "bake rye --turn", monkeypatch) == 7


def test_rollcall_alone_shows_its_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(rollcall, "", monkeypatch) == 2
    assert capsys.readouterr().err.startswith("Usage: rollcall ")


def commands(group: Any, context: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below a group, with the words that call it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, context, (*above, name))
        else:
            yield (*above, name), command


@pytest.mark.parametrize("width", [80, 60])
def test_help_shows_every_option_and_argument_whole_on_a_narrow_screen(width: int) -> None:
    group = typer.main.get_command(rollcall)
    context = group.make_context("rollcall", [], resilient_parsing=True)
    walked = list(commands(group, context))
    assert len(walked) > 25
    for words, command in walked:
        shown = CliRunner().invoke(rollcall, [*words, "--help"], terminal_width=width)
        assert shown.exit_code == 0, words
        assert max(map(len, shown.output.splitlines())) <= width, words
        for param in command.params:
            for name in param.opts if param.param_type_name == "option" else ():
                assert f" {name}" in shown.output, (words, name)
