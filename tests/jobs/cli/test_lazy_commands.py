"""The imports of a command. Help imports next to nothing. `config` and `status` import only the modules that they
use."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from jobs import bench, evaluate, main, train
from jobs.cli.lazy_commands import _app_of, outline
from pipeline.storage import tables
from pipeline.storage.store import Store

HEAVY = {"ray", "torch", "torchvision", "scipy", "pandas", "cv2", "boxmot", "ultralytics", "numpy", "pyarrow", "rich"}
COMMANDS = [
    *([name] for name in main.COMMANDS),
    *(["bench", name] for name in bench.COMMANDS),
    *(["train", name] for name in train.COMMANDS),
    *(["evaluate", name] for name in evaluate.COMMANDS),
    *(["config", name] for name in ("show", "validate", "schema")),
    *(["weights", name] for name in ("list", "pull", "verify", "mirror")),
    *(["datasets", name] for name in ("list", "clean", "plot", "split", "align", "faces")),
]

PROGRAM = """
import io, json, sys
from contextlib import redirect_stdout
from jobs.main import app
told = []
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with redirect_stdout(said):
        try:
            app(args=command)
        except SystemExit as end:
            assert not end.code, command
    told.append([said.getvalue(), sorted(sys.modules)])
print(json.dumps(told))
"""


def carry_out(*commands: Sequence[str]) -> list[tuple[str, set[str]]]:
    """Run commands one after the other in one new process. Return the output of each and the modules imported by
    then."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    return [(text, set(modules)) for text, modules in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def helped() -> list[tuple[str, set[str]]]:
    return carry_out(["--help"], *([*command, "--help"] for command in COMMANDS))


def test_help_imports_no_job_and_nothing_heavy(helped: list[tuple[str, set[str]]]) -> None:
    packages = {f"jobs.{name}" for name in ("cli", "shared", "benchmarks", "reviewing", "bench", "train", "evaluate")}
    mine = packages | {
        f"jobs.{name}" for name in ("main", "cli.lazy_commands", "cli.help", "cli.errors", "cli.options")
    }
    for command, (_, modules) in zip([[], *COMMANDS], helped, strict=True):
        jobs = {name for name in modules if name.startswith("jobs.")} - mine
        assert not modules & HEAVY | jobs, command


def test_help_names_every_command_with_the_whole_of_its_first_sentence(helped: list[tuple[str, set[str]]]) -> None:
    text = " ".join(helped[0][0].split())
    for name in main.COMMANDS:
        assert f" {name} " in text
    assert "Make a clip of people who are known, find them in it, and say how well that went." in text
    assert "COMMAND [ARGS]... Who appears" in text
    assert text.count("...") == 1


def described(command: Any) -> Any:
    """Return everything that help is made from."""
    options = [(param.opts, param.default, param.required, getattr(param, "help", None)) for param in command.params]
    return command.help, options, {name: described(param) for name, param in getattr(command, "commands", {}).items()}


@pytest.mark.parametrize(
    ("package", "name"),
    [
        *(("jobs", name) for name in main.COMMANDS if name not in ("bench", "train", "evaluate")),
        *(("jobs.bench", name) for name in bench.COMMANDS),
        *(("jobs.train", name) for name in train.COMMANDS),
        *(("jobs.evaluate", name) for name in evaluate.COMMANDS),
    ],
)
def test_an_outline_tells_of_a_command_what_is_so(package: str, name: str) -> None:
    module = import_module(f"{package}.{name}")
    assert described(get_command(outline(package, name))) == described(get_command(_app_of(vars(module), name)))


def test_a_look_at_a_configuration_needs_neither_tables_nor_models() -> None:
    for _, modules in carry_out(["config", "show"], ["config", "validate"], ["config", "schema"]):
        assert not modules & HEAVY - {"numpy"}


def test_a_look_at_an_output_needs_its_tables_and_no_models(tmp_path: Path) -> None:
    tables.create(Store(str(tmp_path)), keep_biometrics=False)
    ((text, modules),) = carry_out(["status", str(tmp_path), "--json"])
    assert json.loads(text)["videos"]["done"] == 0
    assert not modules & HEAVY - {"numpy", "pyarrow", "rich"}


def test_a_plan_needs_neither_ray_nor_models(tmp_path: Path) -> None:
    (tmp_path / "rotten.mp4").write_text("no film")
    ((text, modules),) = carry_out(["plan", str(tmp_path), "--output", str(tmp_path / "out")])
    assert "rotten.mp4" in text
    assert not modules & {"ray", "torch", "boxmot", "ultralytics"}


def test_an_unknown_command_is_wrong_usage() -> None:
    done = subprocess.run([sys.executable, "-m", "jobs.main", "proces"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "proces" in done.stderr
