"""A job on a real head, with an object store that stumbles: its metrics on the port for Prometheus, and its lines."""

import json
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.flow.metrics import METRICS
from pipeline.storage import event_log
from pipeline.storage.event_log import FIELDS
from pipeline.storage.store import Store
from tests.clips import scene, write_video
from tests.ray_head import RayHead, ray_head
from tests.s3_proxy import Request, S3Proxy

pytest.importorskip("aiohttp_cors", reason="needs ray[default]")
pytestmark = [pytest.mark.ray, pytest.mark.slow]
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEY = "AKIAIOSFODNN7EXAMPLE"
POOLS = ("--set", "run.observe.cpus=0.5", "--set", "run.enrich.cpus=0.5", "--set", "run.reduce_cpus=0.5")
GPUS = ("--set", "compute.device=cpu", "--set", "run.observe.gpus=0.1", "--set", "run.enrich.gpus=0.1")
QUICK = ("--set", "observe.fps=4", "--set", "chunk.max_seconds=2")
SERIES = re.compile(r"^ray_(rollcall_[a-z_]+?)(?:_bucket|_sum|_count)?\{([^}]*)\} ([0-9.e+]+)", re.MULTILINE)
TAG = re.compile(r'(\w+)="([^"]*)"')
OF_RAY = {"Component", "JobId", "NodeAddress", "SessionName", "Version", "WorkerId", "le"}
OF_RAY |= {"otel_scope_name", "otel_scope_schema_url", "otel_scope_version"}
ENDS_S = 240


def stumbling(request: Request) -> str | None:
    """Fail four of twelve reads of a source in a row. The library of the store repeats a single one by itself."""
    if request.verb != "GET" or "/in/" not in request.key:
        return None
    reads[request.key] += 1
    return "503" if reads[request.key] % 12 < 4 else None


reads: Counter[str] = Counter()


@pytest.fixture
def head(s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHead]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    with ray_head(num_gpus=1) as head:
        yield head


def scraped(head: RayHead) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{head.metrics_port}/metrics", timeout=30) as answer:
        return answer.read().decode()


def watched(head: RayHead, job: str) -> dict[str, set[tuple[str, str]]]:
    """Follow a job to its good end. Return the metrics that it had meanwhile, with their tags and values of tags."""
    seen: dict[str, set[tuple[str, str]]] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            for name, labels, _ in SERIES.findall(scraped(head)):
                seen.setdefault(name, set()).update(pair for pair in TAG.findall(labels) if pair[0] not in OF_RAY)

    thread = threading.Thread(target=watch)
    thread.start()
    until = time.monotonic() + ENDS_S
    while (status := head.status(job)) not in ("stopped", "succeeded", "failed") and time.monotonic() < until:
        time.sleep(1)
    ended.set()
    thread.join()
    assert status == "succeeded", head.logs(job)
    return seen


def test_all_metrics_are_on_the_port_and_no_line_or_table_holds_a_secret(
    head: RayHead, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    store, output = Store(s3_proxy.bucket), f"{s3_proxy.bucket}/out"
    write_video(tmp_path / "short.mp4", scene(75, seed=1))
    write_video(tmp_path / "long.mp4", scene(1500, seed=2, cuts=[300]))
    arguments = (f"{s3_proxy.bucket}/in", "--output", output, *QUICK, *POOLS, *GPUS, "--log", "json")
    store.put("in/Ann Smith.mp4", (tmp_path / "short.mp4").read_bytes())
    assert head.submit("first", *arguments).returncode == 0, head.logs("first")

    store.put("in/long.mp4", (tmp_path / "long.mp4").read_bytes())
    store.put("in/broken.mp4", b"no video")
    s3_proxy.rule = stumbling
    assert head.submit("second", *arguments, "--allow-quarantined", wait=False).returncode == 0
    seen = watched(head, "second")
    assert seen.keys() == METRICS.keys()
    tags = {name: {tag for tag, _ in pairs} for name, pairs in seen.items()}
    assert tags == {name: set(metric.tags) for name, metric in METRICS.items()}
    assert seen["rollcall_retries_total"] == {("kind", "SlowDown")}
    assert seen["rollcall_videos_total"] == {("outcome", "done"), ("outcome", "quarantined")}

    assert head.submit("third", *arguments, wait=False).returncode == 0
    assert "rollcall_last_success_timestamp_s" in watched(head, "third"), "a run without work is seen too"

    shown = [line for job in ("first", "second") for line in head.logs(job).splitlines() if line.startswith("{")]
    driver = [json.loads(line) for line in shown]
    assert {line["event"] for line in driver} >= {
        "run_began",
        "lease_taken",
        "chunk_done",
        "video_published",
        "run_ended",
    }
    output_store = Store(output)
    lines: list[event_log.Line] = []
    for run_id, job in zip(output_store.folders("_events")[:2], ("first", "second"), strict=True):
        files = output_store.names(event_log.folder_of(run_id))
        texts = [text for name in files for text in output_store.read(name).decode().splitlines()]
        assert "Ann Smith" not in "".join(texts)
        lines = [json.loads(text) for text in texts]
        assert all(set(FIELDS) <= set(line) and (line["run"], line["job"]) == (run_id, job) for line in lines)
        done = [(line["video"], line["chunk"]) for line in lines if line["event"] == "chunk_done"]
        began = [(line["video"], line["chunk"]) for line in lines if line["event"] == "chunk_began"]
        assert len(done) == len(set(done)) > 0
        assert set(began) <= set(done), "Ray ends workers without a warning: their last lines may be missing"
    assert {line["pool"] for line in lines if line["event"] == "chunk_began"} == {"observe", "enrich"}
    retried = [line for line in lines if line["event"] == "storage_retried"]
    assert {line["kind"] for line in retried} == {"SlowDown"}
    assert any(line["video"] and line["pool"] == "observe" for line in retried)
    written = b"".join(output_store.read(name) for name in output_store.names("", hidden=True))
    everything = written + "".join(head.logs(job) for job in ("first", "second")).encode()
    assert SECRET.encode() not in everything
    assert KEY.encode() not in everything
