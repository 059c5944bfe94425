"""Two runs on one output in an object store: the second is refused, and goes on where the first was killed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.storage.store import Store
from tests.clips import make_clip
from tests.commands import ROOT
from tests.s3_proxy import S3Proxy

OPTIONS = ("--set", "observe.fps=2", "--set", "chunk.max_seconds=1", "--set", "run.engine=local")


@contextmanager
def run(sources: Path, output: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "jobs.process", str(sources), "--output", output, *OPTIONS, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def tables(store: Store) -> dict[str, bytes]:
    """Return the files that do not describe single runs."""
    of_runs = ("_", "runs/", "run.json", "sources/")
    return {name: store.read(name) for name in store.names("") if not name.startswith(of_runs)}


@pytest.mark.slow
def test_the_second_run_is_refused_and_continues_where_the_first_was_killed(s3_proxy: S3Proxy, tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    make_clip(sources / "a.mp4", seconds=4)
    store = Store(f"{s3_proxy.bucket}/out")
    with run(sources, store.uri) as first:
        while not any("/observed-" in name for name in store.names("_work")):
            assert first.poll() is None
            time.sleep(0.2)
        with run(sources, store.uri) as second:
            printed, _ = second.communicate()
        assert second.returncode == 5, printed
        assert f"process {first.pid} since" in printed
        assert "Traceback" not in printed
    with run(sources, store.uri) as third, run(sources, str(tmp_path / "out")) as alone:
        printed, _ = third.communicate()
        assert (third.returncode, alone.wait()) == (0, 0), printed
    assert "the last run did not end" in printed
    content = json.loads(store.read("run.json"))
    assert (content["lease"], content["chunks"]["reused"] > 0) == ("full", True)
    assert tables(store) == tables(Store(str(tmp_path / "out")))
