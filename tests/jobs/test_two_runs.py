"""Two runs on one output in an object store: the second is refused, and goes on where the first was killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from pipeline.storage.store import Store
from tests.clips import make_clip
from tests.commands import ROOT
from tests.s3_proxy import S3Proxy

OPTIONS = ("--set", "observe.fps=2", "--set", "chunk.max_seconds=1", "--set", "run.engine=local")


@contextmanager
def run(
    sources: Path, output: str, *options: str, program: Sequence[str] = ("-m", "jobs.process")
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *program, str(sources), "--output", output, *OPTIONS, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            workers = family(process)[1:]
            process.kill()  # also one that is frozen; its workers must wake up to see that it is gone
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.send_signal(signal.SIGCONT)


def tables(store: Store) -> dict[str, bytes]:
    """Return the files that do not describe single runs."""
    of_runs = ("_", "runs/", "run.json", "sources/")
    return {name: store.read(name) for name in store.names("") if not name.startswith(of_runs)}


IMPATIENT = """
import sys
from jobs.shared import holding
from pipeline.storage import lease
lease.TTL_S, lease.CONFIRMED_S, holding.GRACE_S = 6, 0.5, 1
from jobs.cli.errors import run_command
from jobs.process import app
run_command(app)
"""


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the process of a run and those of its workers. Empty if it has ended."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def freeze(process: subprocess.Popen[str], sign: signal.Signals) -> None:
    """Stop a run with all its workers, as a machine does that goes to sleep, or wake them."""
    for each in family(process):
        each.send_signal(sign)


@pytest.mark.slow
def test_a_holder_that_slept_past_its_lease_changes_no_byte_when_it_wakes(s3_proxy: S3Proxy, tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    make_clip(sources / "a.mp4", seconds=4)
    store = Store(f"{s3_proxy.bucket}/out")
    with run(sources, store.uri, program=("-c", IMPATIENT)) as first:
        while not any("/observed-" in name for name in store.names("_work")):
            assert first.poll() is None
            time.sleep(0.2)
        freeze(first, signal.SIGSTOP)
        with run(sources, store.uri, "--wait-lease", "300", program=("-c", IMPATIENT)) as second:
            printed, _ = second.communicate()
        assert second.returncode == 0, printed
        after = tables(store)
        freeze(first, signal.SIGCONT)
        printed, _ = first.communicate()
        assert first.returncode == 5, printed
        assert "Traceback" not in printed
    with run(sources, str(tmp_path / "out")) as alone:
        assert alone.wait() == 0
    assert tables(store) == after == tables(Store(str(tmp_path / "out")))
    assert json.loads(store.read("run.json"))["status"] == "done"


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
        freeze(first, signal.SIGSTOP)  # on a busy machine it would be through before the second one is there
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
