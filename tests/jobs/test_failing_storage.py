"""`process` with sources and output in an object store that fails: what passes costs time, and nothing else."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from pipeline.storage.store import Store
from tests.clips import scene, write_video
from tests.commands import rollcall
from tests.s3_proxy import Request, S3Proxy

pytestmark = pytest.mark.slow
NAMES = ("a.mp4", "b.mp4", "c.mp4")
TABLES = ("shots", "tracklets", "detections", "persons", "faces", "links", "likenesses", "csv")
SETTINGS = ("--set", "observe.fps=2", "--set", "chunk.max_seconds=1", "--set", "run.deferral_waits_s=[1,1]")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for seed, name in enumerate(NAMES):
        write_video(folder / name, scene(75, seed=seed))
    return folder


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("expected")
    done = rollcall("process", archive, "--output", output, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return tables(str(output))


@pytest.fixture
def proxy(s3_proxy: S3Proxy, archive: Path) -> S3Proxy:
    store = Store(s3_proxy.bucket)
    for name in NAMES:
        store.put(f"in/{name}", (archive / name).read_bytes())
    return s3_proxy


def tables(output: str) -> dict[str, bytes]:
    store = Store(output)
    return {name: store.read(name) for dataset in TABLES for name in store.names(dataset)}


def statuses(output: str) -> dict[str, str]:
    fs, path = fsspec.core.url_to_fs(f"{output}/sources/sources.parquet")
    rows = pq.read_table(path, filesystem=fs).to_pylist()
    return {row["uri"].rpartition("/")[2]: row["status"] for row in rows}


def process(proxy: S3Proxy, *options: str):  # noqa: ANN201
    return rollcall("process", f"{proxy.bucket}/in", "--output", f"{proxy.bucket}/out", *SETTINGS, *options)


@pytest.mark.parametrize(
    "shares",
    [{"503": 0.05}, {"503": 0.2}, {"500": 0.02, "reset": 0.02, "cut": 0.02, "lost": 0.02}],
    ids=["5 %", "20 %", "every kind"],
)
def test_a_share_of_failing_requests_changes_no_byte(
    shares: Mapping[str, float], proxy: S3Proxy, expected: Mapping[str, bytes]
) -> None:
    proxy.shares = shares
    done = process(proxy)
    assert done.returncode == 0, done.stderr
    assert proxy.faults
    proxy.shares = {}
    assert tables(f"{proxy.bucket}/out") == expected


def test_a_file_that_cannot_be_reached_is_left_to_the_next_run(proxy: S3Proxy, expected: Mapping[str, bytes]) -> None:
    proxy.rule = lambda request: "503" if request.verb == "GET" and request.key.endswith("in/b.mp4") else None
    done = process(proxy)
    assert done.returncode == 4, done.stderr
    assert "deferred at catalog" in done.stdout
    assert "2 videos done" in done.stdout
    assert statuses(f"{proxy.bucket}/out") == {"a.mp4": "done", "b.mp4": "pending", "c.mp4": "done"}
    proxy.rule = lambda _: None
    assert process(proxy).returncode == 0
    assert tables(f"{proxy.bucket}/out") == expected


@contextmanager
def outage(proxy: S3Proxy, seconds: float) -> Iterator[None]:
    """Let all requests fail for some seconds, or for ever, as soon as the first chunk is durable."""
    begun: list[float] = []

    def fault(request: Request) -> str | None:
        if not begun and request.verb == "PUT" and "/observed-" in request.key:
            begun.append(time.monotonic())
            return None
        return "503" if begun and time.monotonic() - begun[0] < seconds else None

    proxy.rule = fault
    yield
    assert begun
    proxy.rule = lambda _: None


@pytest.mark.parametrize(("seconds", "waits_s"), [(40, "[10,20,40]"), (120, "[10,30,60,60]")])
def test_a_bucket_that_is_asleep_for_a_while_costs_a_run_only_time(
    seconds: float, waits_s: str, proxy: S3Proxy, expected: Mapping[str, bytes]
) -> None:
    """A request gives up after 6 tries in at most 31 s. The run then waits for rounds until the bucket is awake."""
    with outage(proxy, seconds):
        done = process(proxy, "--set", f"run.deferral_waits_s={waits_s}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.faults["503"]
    assert tables(f"{proxy.bucket}/out") == expected


def test_a_bucket_that_stays_asleep_ends_the_run_with_a_line_and_the_next_run_does_the_rest(
    proxy: S3Proxy, expected: Mapping[str, bytes]
) -> None:
    with outage(proxy, seconds=math.inf):
        ended = process(proxy)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) <= 2
    done = process(proxy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(f"{proxy.bucket}/out") == expected


def test_a_file_that_may_not_be_read_is_quarantined_alone(proxy: S3Proxy) -> None:
    proxy.rule = lambda request: "403" if request.verb == "GET" and request.key.endswith("in/b.mp4") else None
    assert process(proxy).returncode == 3
    assert statuses(f"{proxy.bucket}/out") == {"a.mp4": "done", "b.mp4": "quarantined", "c.mp4": "done"}


def test_credentials_that_have_expired_end_the_run_with_a_line(proxy: S3Proxy) -> None:
    proxy.rule = lambda request: "400" if request.verb == "GET" and "/in/" in request.key else None
    done = process(proxy)
    assert done.returncode == 2
    assert "its credentials have expired" in done.stderr
    assert "Traceback" not in done.stderr
