import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRONG = ["-m", "jobs.config", "validate", "--set", "observe.fsp=4"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PATH": ""},
    )


def test_a_mistake_is_one_line_on_stderr_and_status_2_without_a_traceback() -> None:
    told = run(*WRONG)
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("rollcall: --set observe.fsp=4: unknown key observe.fsp; did you mean observe.fps?")


def test_debug_shows_the_traceback_by_option_and_by_environment() -> None:
    assert "Traceback" in run(*WRONG, "--debug").stderr
    assert "Traceback" in run(*WRONG, ROLLCALL_DEBUG="1").stderr


def test_a_folder_where_a_file_is_wanted_is_a_persons_mistake() -> None:
    program = (
        "import typer; from jobs.errors import run; app = typer.Typer(); app.command()(lambda: open('/')); run(app)"
    )
    told = run("-c", program)
    assert (told.returncode, told.stderr) == (2, "rollcall: /: Is a directory; name another place\n")


def test_an_unknown_option_is_wrong_usage() -> None:
    assert run("-m", "jobs.config", "validate", "--sett", "x=1").returncode == 2
