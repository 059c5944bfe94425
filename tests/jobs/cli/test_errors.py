import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import MEMORY_IS_FULL

ROOT = Path(__file__).parents[3]
HEAD = "import typer\nfrom jobs.cli.errors import run_command\napp = typer.Typer(pretty_exceptions_enable=False)\n"
WRONG = ["-m", "jobs.config", "validate", "--set", "observe.fsp=4"]


def program(text: str) -> str:
    """Return a program with the command that `text` defines."""
    return f"{HEAD}{text}\nrun_command(app)"


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
    ended = run(*WRONG)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("rollcall: --set observe.fsp=4: unknown key observe.fsp; did you mean observe.fps?")


def test_debug_shows_the_traceback_by_option_and_by_environment() -> None:
    assert "Traceback" in run(*WRONG, "--debug").stderr
    assert "Traceback" in run(*WRONG, ROLLCALL_DEBUG="1").stderr


def test_a_folder_where_a_file_is_wanted_is_a_persons_mistake() -> None:
    command = program("app.command()(lambda: open('/'))")
    ended = run("-c", command)
    assert (ended.returncode, ended.stderr) == (
        2,
        "rollcall: /: Is a directory; move away what is there, or name another place\n",
    )


@pytest.mark.parametrize("below", ["export", "export/csv/a.csv"])
def test_a_file_where_a_folder_is_needed_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "export").write_text("in the way")
    ended = run("-c", program(f"app.command()(lambda: __import__('os').makedirs({str(tmp_path / below)!r}))"))
    said = f"rollcall: {tmp_path}/export is a file where a folder is needed; move it away, or name another place\n"
    assert (ended.returncode, ended.stderr) == (2, said)


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        ("MachineError('/out: full; free some')", "/out: full; free some"),
        (
            "OSError(28, 'x', '/tmp/a')",
            "/tmp/a: No space left on device; free some, and run the same command again: what is finished is kept",
        ),
        (
            "RuntimeError(\"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
            'you tried to allocate 414720000000 bytes. Error code 12 (Cannot allocate memory)")',
            f"there is too little memory for another 414.7 GB; {MEMORY_IS_FULL}",
        ),
        (
            "RuntimeError('Storage size calculation overflowed with sizes=[9, 9]')",
            f"there is too little memory; {MEMORY_IS_FULL}",
        ),
        (
            "MemoryError('Unable to allocate 72.8 TiB for an array with shape (9,) and data type float64')",
            f"there is too little memory for another 72.8 TiB; {MEMORY_IS_FULL}",
        ),
        ("MemoryError()", f"there is too little memory; {MEMORY_IS_FULL}"),
    ],
)
def test_a_fault_of_the_machine_is_a_line_and_status_1(raised: str, line: str) -> None:
    ended = run(
        "-c",
        program(f"from pipeline.errors import MachineError\n@app.command()\ndef f(): raise {raised}"),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"rollcall: {line}\n")


def test_a_bug_is_a_traceback_and_status_1() -> None:
    ended = run("-c", program("@app.command()\ndef f(): raise KeyError('x')"))
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_a_name_that_the_terminal_cannot_show_ends_nothing() -> None:
    command = program("from jobs.cli import console\n@app.command()\ndef f(): console.say('caf\\u00e9 \\udcff')")
    ended = run("-c", command, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "caf\\xe9 \\xff\n", "")


def test_a_reader_who_leaves_early_sees_no_traceback() -> None:
    talks = "def f():\n for i in range(99999): console.say('x' * 99)"
    talking = program(f"from jobs.cli import console\n@app.command()\n{talks}")
    command = f'exec 3>&1; ({{ {sys.executable} -c "$0"; echo $? >&3; }} | /usr/bin/head -n 1 >/dev/null) 3>&1'
    ended = subprocess.run(["/bin/sh", "-c", command, talking], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_a_machine_without_a_home_folder_is_no_mistake(tmp_path: Path) -> None:
    show_home = program("from pathlib import Path\n@app.command()\ndef f(): print(Path.home())")
    missing = """import os
from pathlib import Path
def home(_):
    if "HOME" not in os.environ:
        raise RuntimeError
    return Path(os.environ["HOME"])
Path.home = classmethod(home)
"""
    ended = run("-c", missing + show_home, TMPDIR=str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{tmp_path}\n", "")


def test_an_unknown_option_is_wrong_usage() -> None:
    assert run("-m", "jobs.config", "validate", "--sett", "x=1").returncode == 2


def test_a_polite_kill_counts_as_an_interruption_while_a_command_is_imported() -> None:
    killed_early = (
        "import sys, signal\nfrom jobs import main\nfrom jobs.cli import lazy_commands\n"
        "lazy_commands.import_module = lambda name: signal.raise_signal(signal.SIGTERM)\n"
        "sys.argv = ['rollcall', 'config', 'show']\nmain.main()"
    )
    ended = run("-c", killed_early)
    assert (ended.returncode, ended.stderr) == (130, "rollcall: interrupted\n")
