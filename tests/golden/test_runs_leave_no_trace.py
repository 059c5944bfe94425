"""Engines, workers, lengths of chunks and interruptions change no byte that a user reads, except in `runs` and
run.json.

The settings are drawn anew each time. ROLLCALL_DRAW=NUMBER, which a failure prints, draws the same settings again.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from pipeline.models.gpu import has_gpu
from tests import clips
from tests.golden.by_hand import SHARED_WEIGHTS, contents
from tests.observing_worker import kill_observing_worker
from tests.shared import SHARED, needs_shared

ROOT = Path(__file__).parents[2]

pytestmark = [needs_shared, pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two videos of some chunks each."""
    place = tmp_path_factory.mktemp("in")
    clips.re_encode(SHARED / "clips" / "meeting.mp4", place / "a.mp4", limit_s=8, width=360)
    clips.re_encode(SHARED / "clips" / "street-backlit.mp4", place / "b.mkv", limit_s=6, width=640)
    return place


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Return a random generator with another seed for each test and each run."""
    number = os.environ.get("ROLLCALL_DRAW") or secrets.token_hex(4)
    print(f"ROLLCALL_DRAW={number}")
    return Random(f"{number} {request.node.name}")


def drawn(random: Random) -> list[str]:
    """Draw settings of speed and safety."""
    choices = {
        "chunk.max_seconds": [1, 2, 3, 5, 600],
        "observe.decode_threads": [1, 2],
        "observe.decoder": ["cpu"] if has_gpu() else ["cpu", "auto"],
        "run.max_reduces": [1, 2, 8],
        "run.reduce_cpus": [0.5, 1],
        "run.engine": ["ray", "local"],
    }
    settings = [f"{knob}={random.choice(values)}" for knob, values in choices.items()]
    if "run.engine=ray" in settings:
        settings += [f"run.{pool}.workers={random.choice([1, 2])}" for pool in ("observe", "enrich")]
    print(*settings)
    return settings


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


def durable(place: Path) -> set[str]:
    """Return the names of the durable objects at `place`: those of chunks, and those of published videos."""
    walked = (Path(folder, name).relative_to(place) for folder, _, names in os.walk(place) for name in names)
    paths = (path for path in walked if path.suffix == ".parquet" and path.name != "schema.parquet")
    return {path.as_posix() for path in paths if path.parts[0] not in ("sources", "runs")}


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


ENGINES = [
    ["run.engine=local"],
    ["run.engine=ray"],
    ["run.engine=ray", "run.observe.workers=2", "run.enrich.workers=2"],
    ["run.engine=local", "run.observe.spans=3"],
    ["run.engine=ray", "run.observe.spans=3"],
    ["run.engine=local", "run.enrich.workers=0", "run.observe.spans=3"],
    ["run.engine=ray", "run.enrich.workers=0", "run.observe.spans=3"],
]


@pytest.mark.parametrize("engine", ENGINES, ids=" ".join)
def test_engines_workers_and_chunks_leave_no_trace(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, random: Random, engine: list[str]
) -> None:
    others = [setting for setting in drawn(random) if ".workers=" not in setting]
    process(folder, tmp_path, *others, *engine)
    assert lasting(tmp_path) == reference


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_worker_that_dies_with_several_spans_loses_none_of_them_and_nobody_is_blamed(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    words = command(folder, tmp_path, f"run.engine={engine}", "run.observe.spans=4")
    run = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(kill_observing_worker(run, folder, 2), "spans in flight")
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert lasting(tmp_path) == reference
    assert pd.read_parquet(tmp_path / "runs").attempts.max() == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_an_interrupted_run_goes_on_where_it_was(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, random: Random, how: signal.Signals
) -> None:
    """The first run is stopped when the drawn number of objects is durable. The second may have other settings."""
    num_objects = random.randint(1, 24)
    print(f"killed after {num_objects} objects")
    run = subprocess.Popen(
        command(folder, tmp_path, *drawn(random), f"chunk.max_seconds={random.choice([1, 2])}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    seen: set[str] = set()
    while len(seen) < num_objects and "videos" not in {name.split("/")[0] for name in seen}:
        assert run.poll() is None, run.communicate()
        seen |= durable(tmp_path)
        time.sleep(0.02)
    run.send_signal(how)
    said, complained = run.communicate(timeout=60)
    if how is not signal.SIGKILL:
        assert run.returncode == 130
        assert "the same command goes on from there" in said
        assert "Traceback" not in complained

    time.sleep(3)  # workers of a killed driver need a moment to die
    left = durable(tmp_path)
    complete = {name for name in left if "/enriched-" in name and _other(tmp_path, name).exists()}
    published = {name for name in left if name.startswith("videos/")}
    assert left
    process(folder, tmp_path, *drawn(random))
    assert lasting(tmp_path) == reference
    assert published or not complete or pd.read_parquet(tmp_path / "runs").chunks_reused.sum() >= 1


def _other(place: Path, enriched: str) -> Path:
    """Return the path of the other object of a chunk."""
    path = place / enriched
    return next(path.parents[1].glob(f"observed-*/{path.name}"), place / "nowhere")
