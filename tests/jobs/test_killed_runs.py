"""The driver of `process` is killed at random moments. The tables in the end are those of an undisturbed run."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.commands import ROOT, rollcall

pytestmark = pytest.mark.slow
KILLS = 20
SEED = 7
SETTINGS = ("--set", "observe.fps=4", "--set", "chunk.max_seconds=1")
TABLES = ("shots", "tracklets", "detections", "persons", "faces", "links", "likenesses", "csv")


def tables(output: Path) -> dict[str, bytes]:
    files = (path for name in TABLES for path in sorted((output / name).rglob("*.*")))
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def start(archive: Path, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.process", archive, "--output", output, *SETTINGS]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_driver_killed_at_twenty_moments_loses_and_changes_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for name, seconds, cuts in (("a.mp4", 6, [70]), ("b.mp4", 4, []), ("c.mp4", 5, [25, 90])):
        make_clip(archive / name, seconds=seconds, cuts=cuts)
    undisturbed = rollcall("process", archive, "--output", tmp_path / "undisturbed", *SETTINGS)
    assert undisturbed.returncode == 0, undisturbed.stderr
    chance = random.Random(SEED)
    output = tmp_path / "disturbed"
    survived = 0
    for _ in range(KILLS):
        process = start(archive, output)
        try:
            process.communicate(timeout=chance.uniform(0.5, 15))
            survived += 1  # it finished before the kill; the next one starts from nothing
            for path in sorted(output.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert survived < KILLS
    last = rollcall("process", archive, "--output", output, *SETTINGS)
    assert last.returncode == 0, last.stderr
    assert tables(output) == tables(tmp_path / "undisturbed")
    assert list(output.rglob(".*.partial")) == []
