"""Chunks, workers, spans and engines change no byte that a user reads, on a card as on a CPU. Nor does the death of a
worker, and where NVDEC decodes, only the recipe differs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from pipeline.chunk.decoder import ON_CARD
from pipeline.models import gpu
from tests.commands import ROOT
from tests.golden.by_hand import SHARED_WEIGHTS, contents
from tests.gpu.agreement import agreement
from tests.observing_worker import kill_observing_worker
from tests.shared import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.ray]

ENRICH = "run.enrich={workers: 2, max_workers: 2, cpus: 1, gpus: 0.1}"
ALONE = "one process, one chunk, one span"
RUNS = {
    ALONE: ["run.engine=local", "chunk.max_seconds=600", "run.observe.spans=1"],
    "one process, chunks of 3 s, one span": ["run.engine=local", "chunk.max_seconds=3", "run.observe.spans=1"],
    "one process, chunks of 3 s, six spans": ["run.engine=local", "chunk.max_seconds=3", "run.observe.spans=6"],
    "four workers, chunks of 3 s, one span each": [
        *("run.engine=ray", "chunk.max_seconds=3", ENRICH),
        "run.observe={workers: 4, max_workers: 4, cpus: 1, gpus: 0.1, spans: 1}",
    ],
    "two workers that also find faces, chunks of 1 s, six spans each": [
        *("run.engine=ray", "chunk.max_seconds=1", "run.enrich.workers=0"),
        "run.observe={workers: 2, max_workers: 2, cpus: 1, gpus: 0.1, spans: 6}",
    ],
    "two workers, chunks of 1 s, six spans each": [
        *("run.engine=ray", "chunk.max_seconds=1", ENRICH),
        "run.observe={workers: 2, max_workers: 2, cpus: 1, gpus: 0.1, spans: 6}",
    ],
}
ON_CPU = ["run.engine=local", "chunk.max_seconds=600", "run.observe.spans=1", "compute.device=cpu"]
DECODING = {
    "NVDEC, one process, one chunk, one span": [*RUNS[ALONE], "observe.decoder=auto"],
    "NVDEC, two workers, chunks of 10 s, six spans each": [
        *("run.engine=ray", "chunk.max_seconds=10", ENRICH, "observe.decoder=auto"),
        "run.observe={workers: 2, max_workers: 2, cpus: 1, gpus: 0.1, spans: 6}",
    ],
}
"""Runs in which a card decodes what is as long as 10 s: plaza."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("in")
    for name in ("plaza", "street-backlit", "talkshow"):
        shutil.copy(SHARED / "clips" / f"{name}.mp4", place)
    return place


def start(folder: Path, place: Path, settings: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.process", folder, "--output", place, "--config", SHARED_WEIGHTS, *options]
    with log.open("w") as said:
        environment = os.environ | {"COLUMNS": "200"}
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=said, stderr=said, env=environment)


def lasting(place: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in contents(place).items()
        if not name.startswith("runs/") and name != "run.json"
    }


def without_recipes(output: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of an output that do not name the recipe of the tables."""
    naming = ("videos/", "recipes/", "sources/", "_state/")
    return {name: content for name, content in output.items() if not name.startswith(naming)}


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> set[str]:
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


@pytest.fixture(scope="module")
def places(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All runs share the card at the same time, so their kernels meet in every order."""
    place = tmp_path_factory.mktemp("out")
    made = {name: place / str(number) for number, name in enumerate(RUNS)}
    started = {name: start(folder, made[name], RUNS[name], made[name].with_suffix(".log")) for name in RUNS}
    for name, run in started.items():
        assert run.wait() == 0, (name, made[name].with_suffix(".log").read_text()[-3000:])
    print({name: len(pd.read_parquet(made[ALONE] / name)) for name in ("persons", "detections", "faces")})
    assert len(pd.read_parquet(made[ALONE] / "persons")) > 3
    return made


@pytest.fixture(scope="module")
def outputs(places: dict[str, Path]) -> dict[str, dict[str, bytes]]:
    return {name: lasting(place) for name, place in places.items()}


@pytest.mark.parametrize("name", [name for name in RUNS if name != ALONE])
def test_chunks_workers_spans_and_engines_change_no_byte(outputs: dict[str, dict[str, bytes]], name: str) -> None:
    assert differing(outputs[name], outputs[ALONE]) == set()


def test_card_and_cpu_find_the_same_people(folder: Path, places: dict[str, Path], tmp_path: Path) -> None:
    """Half precision moves boxes and scores a little, so some boxes at a threshold differ."""
    run = start(folder, tmp_path / "out", ON_CPU, tmp_path / "log")
    assert run.wait(400) == 0, (tmp_path / "log").read_text()[-3000:]
    card, cpu = (
        (pd.read_parquet(place / "detections"), pd.read_parquet(place / "faces"))
        for place in (places[ALONE], tmp_path / "out")
    )
    agreed = agreement(card, cpu, sorted(set(cpu[0].video_id)))
    print(agreed)
    assert agreed.ap50 > 0.95
    assert agreed.idf1 > 0.9
    assert agreed.num_ages > 5
    assert agreed.years[0] <= 1


@pytest.mark.parametrize("name", DECODING)
def test_a_card_that_decodes_changes_no_byte_of_a_sound_video(
    folder: Path, outputs: dict[str, dict[str, bytes]], tmp_path: Path, name: str
) -> None:
    if why := gpu.why_no_nvdec():
        pytest.skip(f"needs NVDEC: {why}")
    run = start(folder, tmp_path / "out", DECODING[name], tmp_path / "log")
    assert run.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert ON_CARD in (tmp_path / "log").read_text().replace("\n", " ")
    place = tmp_path / "out"
    written = [json.loads(line) for file in (place / "_events").rglob("*.jsonl") for line in file.open()]
    assert [line["message"] for line in written if line["event"] == "decoded_on_cpu"] == []
    expected = without_recipes(outputs[ALONE])
    assert len(expected) > 20
    assert differing(without_recipes(lasting(place)), expected) == set()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_worker_that_dies_with_several_spans_loses_none_of_them_and_nobody_is_blamed(
    folder: Path, outputs: dict[str, dict[str, bytes]], tmp_path: Path, engine: str
) -> None:
    settings = [f"run.engine={engine}", "run.observe.spans=6", "chunk.max_seconds=1"]
    run = start(folder, tmp_path / "out", settings, tmp_path / "log")
    print(kill_observing_worker(run, folder, 3), "spans in flight")
    assert run.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert differing(lasting(tmp_path / "out"), outputs[ALONE]) == set()
    assert pd.read_parquet(tmp_path / "out" / "runs").attempts.max() == 1
