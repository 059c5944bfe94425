"""Number of workers, a second run, an interruption: none changes a byte that a user reads, save in `runs`, run.json."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests import clips
from tests.golden.by_hand import SHARED_WEIGHTS, contents
from tests.shared import SHARED, needs_shared

ROOT = Path(__file__).parents[2]

pytestmark = [needs_shared, pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of some chunks each."""
    place = tmp_path_factory.mktemp("in")
    clips.re_encode(SHARED / "clips" / "meeting.mp4", place / "a.mp4", limit_s=8, width=360)
    clips.re_encode(SHARED / "clips" / "street-backlit.mp4", place / "b.mkv", limit_s=6, width=640)
    return place


def command(folder: Path, output: Path, *settings: str) -> list[str]:
    chosen = ["chunk.max_seconds=2", "observe.fps=4", *settings]
    options = [word for setting in chosen for word in ("--set", setting)]
    return [
        *(sys.executable, "-m", "jobs.process", str(folder)),
        *("--output", str(output), "--config", str(SHARED_WEIGHTS), *options),
    ]


def process(folder: Path, output: Path, *settings: str) -> None:
    done = subprocess.run(command(folder, output, *settings), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def lasting(place: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in contents(place).items()
        if not name.startswith("runs/") and name != "run.json"
    }


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("reference")
    process(folder, place)
    assert pd.read_parquet(place / "runs").num_chunks.min() >= 3
    return lasting(place)


@pytest.mark.parametrize("settings", [["run.observe.workers=2"], ["run.enrich.workers=2"], ["chunk.max_seconds=600"]])
def test_workers_and_chunks_leave_no_trace(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, settings: Sequence[str]
) -> None:
    process(folder, tmp_path, *settings)
    assert lasting(tmp_path) == reference


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_an_interrupted_run_goes_on_where_it_was(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, how: signal.Signals
) -> None:
    run = subprocess.Popen(
        command(folder, tmp_path),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    while not list(tmp_path.glob("_work/*/enriched-*/*.parquet")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    run.send_signal(how)
    said, complained = run.communicate(timeout=60)
    if how is signal.SIGINT:
        assert run.returncode == 130
        assert "the same command goes on from there" in said
        assert "Traceback" not in complained

    time.sleep(3)  # workers of a killed driver need a moment to die
    durable = len(list(tmp_path.glob("_work/*/observed-*/*.parquet")))
    published = len(pd.read_parquet(tmp_path / "videos"))
    assert durable or published
    process(folder, tmp_path)
    assert lasting(tmp_path) == reference
    assert published or pd.read_parquet(tmp_path / "runs").chunks_reused.sum() >= 1
