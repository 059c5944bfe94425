"""Chunks, workers and engines change no byte that a user reads, on a card as on a CPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import ROOT
from tests.golden.by_hand import SHARED_WEIGHTS, contents
from tests.shared import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.ray]

RUNS = {
    "one process, chunks of 3 s": ["run.engine=local", "chunk.max_seconds=3"],
    "one process, one chunk": ["run.engine=local", "chunk.max_seconds=600"],
    "four workers, chunks of 3 s": [
        *("run.engine=ray", "chunk.max_seconds=3"),
        *("run.observe={workers: 4, max_workers: 4, cpus: 1, gpus: 0.1}",),
        *("run.enrich={workers: 2, max_workers: 2, cpus: 1, gpus: 0.1}",),
    ],
}


def lasting(place: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in contents(place).items()
        if not name.startswith("runs/") and name != "run.json"
    }


def test_chunks_workers_and_engines_change_no_byte(tmp_path: Path) -> None:
    """All runs share the card at the same time, so their kernels meet in every order."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("plaza", "street-backlit", "talkshow"):
        shutil.copy(SHARED / "clips" / f"{name}.mp4", folder)
    started = {}
    for number, (name, settings) in enumerate(RUNS.items()):
        options = [word for setting in settings for word in ("--set", setting)]
        place = tmp_path / str(number)
        command = [
            sys.executable,
            "-m",
            "jobs.process",
            folder,
            "--output",
            place,
            "--config",
            SHARED_WEIGHTS,
            *options,
        ]
        with (tmp_path / f"{number}.log").open("w") as log:
            started[name] = (
                place,
                subprocess.Popen(
                    list(map(str, command)), cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"COLUMNS": "200"}
                ),
            )
    for number, (name, (_, run)) in enumerate(started.items()):
        assert run.wait() == 0, (name, (tmp_path / f"{number}.log").read_text()[-3000:])
    outputs = {name: lasting(place) for name, (place, _) in started.items()}
    reference = outputs["one process, one chunk"]
    place = started["one process, one chunk"][0]
    print({name: len(pd.read_parquet(place / name)) for name in ("persons", "detections", "faces")})
    assert len(pd.read_parquet(place / "persons")) > 3
    for name, output in outputs.items():
        assert output.keys() == reference.keys(), name
        assert [path for path in output if output[path] != reference[path]] == [], name
