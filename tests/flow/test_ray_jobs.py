"""`ray job submit` of the main job to a real head: submit, follow, stop, submit again, exit statuses."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.clips import scene, write_video
from tests.commands import rollcall
from tests.ray_head import RayHead, ray_head

pytest.importorskip("aiohttp_cors", reason="needs ray[default]")
pytestmark = [pytest.mark.ray, pytest.mark.slow]
QUICK = ("--set", "observe.fps=4", "--set", "chunk.max_seconds=2")
POOLS = ("--set", "run.observe.cpus=0.5", "--set", "run.enrich.cpus=0.5", "--set", "run.reduce_cpus=0.5")


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as head:
        yield head


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_video(folder / "short.mp4", scene(75, seed=1))
    write_video(folder / "long.mp4", scene(750, seed=2, cuts=[300]))
    return folder


def tables(output: Path) -> dict[str, bytes]:
    names = ("shots", "tracklets", "detections", "persons", "faces", "links", "likenesses", "csv")
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for name in names
        for path in sorted((output / name).rglob("*.*"))
    }


def wait_for_chunks(output: Path, count: int) -> None:
    end = time.monotonic() + 180
    while len(list(output.glob("_work/*/enriched-*/*.parquet"))) < count:
        assert time.monotonic() < end, "no chunk became durable"
        time.sleep(0.2)


def test_a_job_makes_what_a_run_on_this_machine_makes(head: RayHead, archive: Path, tmp_path: Path) -> None:
    done = head.submit("whole", archive, "--output", tmp_path / "job", *QUICK, *POOLS)
    assert done.returncode == 0, done.stdout
    assert head.status("whole") == "succeeded"
    assert "2 videos done" in head.logs("whole")
    assert rollcall("process", archive, "--output", tmp_path / "here", *QUICK).returncode == 0
    assert tables(tmp_path / "job") == tables(tmp_path / "here")


def test_a_stopped_job_loses_nothing_and_goes_on_under_another_id(head: RayHead, archive: Path, tmp_path: Path) -> None:
    arguments = (archive / "long.mp4", "--output", tmp_path / "job", *QUICK, *POOLS)
    assert head.submit("stopped", *arguments, wait=False).returncode == 0
    wait_for_chunks(tmp_path / "job", 2)
    started = time.monotonic()
    head.stop("stopped")
    assert time.monotonic() - started < 60
    assert head.status("stopped") == "stopped"
    assert json.loads((tmp_path / "job" / "run.json").read_text())["status"] == "interrupted"
    assert list((tmp_path / "job").rglob("*.partial")) == []
    again = head.submit("stopped", *arguments)
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr
    assert head.submit("goes-on", *arguments).returncode == 0
    run = json.loads((tmp_path / "job" / "run.json").read_text())
    assert run["status"] == "done"
    assert run["chunks"]["reused"] >= 2
    assert pq.read_table(tmp_path / "job" / "videos")["status"].to_pylist() == ["done"]


def test_a_quarantined_video_fails_the_job_unless_that_is_allowed(head: RayHead, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no video")
    shutil.copy(archive / "short.mp4", tmp_path / "in")
    arguments = (tmp_path / "in", "--output", tmp_path / "job", *QUICK, *POOLS)
    assert head.submit("quarantines", *arguments).returncode == 1
    assert head.status("quarantines") == "failed"
    assert head.submit("allows", *arguments, "--allow-quarantined", "--retry-quarantined").returncode == 0


def test_a_job_carries_the_program_and_little_else(head: RayHead, archive: Path, tmp_path: Path) -> None:
    done = head.submit("carries", archive / "short.mp4", "--output", tmp_path / "job", *QUICK, *POOLS)
    assert done.returncode == 0
    packages = [
        path for path in Path("/tmp").glob("rh*/t/session_*/runtime_resources/working_dir_files/*") if path.is_dir()
    ]
    newest = max(packages, key=lambda path: path.stat().st_mtime)
    files = [path for path in newest.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20 << 20
    tops = {path.relative_to(newest).parts[0] for path in files}
    assert {"jobs", "pipeline", "rollcall", "conf", "weights"} <= tops
    assert not tops & {".git", ".venv", "out", "tests", "docs", ".env"}
