"""The process of the local engine that starts before the run knows its work."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import load
from pipeline.errors import UserError
from pipeline.flow import local_child
from pipeline.flow.local_child import Prepare, is_foreseen, started_early


@pytest.mark.parametrize(
    ("settings", "output", "expected"),
    [
        ((), "new", True),
        ((), "empty", True),
        ((), "used", False),
        ((), "used/file", False),
        ((), "s3://bucket/new", False),
        (("run.engine=local",), "new", True),
        (("run.engine=ray",), "new", False),
        (("run.enrich.workers=2",), "new", False),
        (("run.address=10.0.0.1:6379",), "new", False),
    ],
)
def test_a_worker_is_foreseen_for_a_new_output_unless_ray_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], output: str, expected: bool
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("used").mkdir()
    Path("used/file").touch()
    assert is_foreseen(load(settings=settings), output) is expected


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Children that were started, each a list of the messages that it got and at last of its end."""
    children: list[Any] = []

    def start() -> Any:
        noted: list[Any] = []
        children.append(noted)
        return SimpleNamespace(send=noted.append, close=lambda: noted.append("end"))

    monkeypatch.setattr(local_child, "start", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return children


def test_the_process_starts_before_the_configuration_is_read(tmp_path: Path, started: list[Any]) -> None:
    output = str(tmp_path / "new")
    with started_early(output) as early:
        assert started == [[]]
        assert early.prepared(load(), output) is not None
        assert started == [[Prepare()]]
    assert started == [[Prepare(), "end"]]


@pytest.mark.parametrize("setting", ["run.engine=ray", "run.enrich.workers=2"])
def test_the_process_ends_as_soon_as_the_configuration_asks_for_ray(
    tmp_path: Path, started: list[Any], setting: str
) -> None:
    output = str(tmp_path / "new")
    with started_early(output) as early:
        assert early.prepared(load(settings=[setting]), output) is None
        assert started == [["end"]]


def test_the_process_ends_where_the_configuration_is_wrong(tmp_path: Path, started: list[Any]) -> None:
    with pytest.raises(UserError), started_early(str(tmp_path / "new")):
        load(settings=["run.engin=ray"])
    assert started == [["end"]]


def test_an_output_that_the_configuration_names_is_new_enough_to_start(tmp_path: Path, started: list[Any]) -> None:
    with started_early(None) as early:
        assert started == []
        assert early.prepared(load(), str(tmp_path / "new")) is not None
        assert started == [[Prepare()]]


def test_an_older_output_starts_no_process(tmp_path: Path, started: list[Any]) -> None:
    (tmp_path / "table.csv").touch()
    with started_early(str(tmp_path)) as early:
        assert early.prepared(load(), str(tmp_path)) is None
    assert started == []


def test_the_command_imports_neither_arrays_nor_its_configuration_before_the_process_starts() -> None:
    code = "import sys, jobs.process; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "pipeline.flow.local_child" in loaded
    assert not loaded & {"pipeline.config", "numpy", "pydantic", "pyarrow", "av"}


@pytest.mark.parametrize(
    "modules",
    ["jobs.shared.checks, jobs.shared.processing, jobs.shared.sources", "pipeline.flow.local_process"],
)
def test_neither_side_imports_what_only_the_last_steps_of_a_run_need(modules: str) -> None:
    loaded = set(
        subprocess.check_output(
            [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"], text=True
        ).split()
    )
    assert "pipeline.video.reduce" in loaded
    assert not loaded & {"scenedetect", "pyarrow.compute", "pipeline.video.annotation", "torch", "scipy"}
