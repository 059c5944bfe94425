"""The pod of the night creates a RayJob, waits for it, and tries again only where that can help."""

import importlib.util
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.infra.manifests import KUBERNETES, read

JOB = {"name": "rollcall-nightly-29401234", "uid": "5f1c"}


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nightly", KUBERNETES / "nightly/nightly.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nightly = program()


def ended(code: int) -> dict[str, str]:
    """Return the status of a RayJob whose command ended with this code, in Ray's words."""
    if code == 0:
        return {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    message = f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n"
    message += "the log says: failed with exit code 77"
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": message}


LOST_HEAD = {
    "jobDeploymentStatus": "Failed",
    "jobStatus": "RUNNING",
    "reason": "JobDeploymentStatusTransitionGracePeriodExceeded",
}
STOPPED = {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED", "message": "Job was intentionally stopped."}
TOO_LONG = {"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": "DeadlineExceeded"}
REFUSED = {"jobDeploymentStatus": "ValidationFailed", "message": "The RayJob spec is invalid"}


class Cluster:
    """An API server that ends the RayJobs that it is asked to create one after the other."""

    def __init__(self, *endings: Mapping[str, str]) -> None:
        self.endings = list(endings)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.polls: dict[str, int] = {}
        self.slept: list[float] = []

    def ask(self, method: str, name: str, body: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if method == "POST":
            assert body is not None
            name = body["metadata"]["name"]
            if name in self.jobs:
                return None
            self.jobs[name] = dict(body)
            return self.jobs[name]
        if name not in self.jobs:
            return None
        self.polls[name] = self.polls.get(name, 0) + 1
        running = [
            {},
            {"jobDeploymentStatus": "Initializing"},
            {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        ]
        index = list(self.jobs).index(name)
        steps = [*running, self.endings[index]]
        return {**self.jobs[name], "status": steps[min(self.polls[name], len(steps)) - 1]}

    def night(self) -> int:
        return nightly.run_night(read("kubernetes/nightly/rayjob.yaml"), JOB, self.ask, self.slept.append)


@pytest.mark.parametrize(
    ("endings", "status", "num_jobs"),
    [
        ([ended(0)], 0, 1),
        ([ended(2)], 2, 1),
        ([ended(3)], 3, 1),
        ([ended(5)], 5, 1),
        ([STOPPED], 130, 1),
        ([REFUSED], 2, 1),
        ([TOO_LONG], 124, 1),
        ([ended(1), ended(0)], 0, 2),
        ([ended(4), ended(0)], 0, 2),
        ([LOST_HEAD, ended(0)], 0, 2),
        ([LOST_HEAD, ended(5), ended(0)], 0, 3),
        ([ended(4), ended(4), ended(4)], 4, 3),
        ([LOST_HEAD, LOST_HEAD, LOST_HEAD], 1, 3),
    ],
)
def test_a_new_cluster_is_built_only_where_it_can_help(
    endings: list[dict[str, str]], status: int, num_jobs: int
) -> None:
    cluster = Cluster(*endings)
    assert cluster.night() == status
    assert len(cluster.jobs) == num_jobs
    assert cluster.slept.count(nightly.PAUSE_S) == num_jobs - 1


def test_a_pod_that_replaces_another_goes_on_waiting_for_the_same_run() -> None:
    cluster = Cluster(ended(1), ended(0))
    assert cluster.night() == 0
    before = dict(cluster.jobs)
    assert cluster.night() == 0
    assert cluster.jobs == before


def test_the_run_belongs_to_the_job_of_the_night() -> None:
    cluster = Cluster(ended(0))
    cluster.night()
    ((name, job),) = cluster.jobs.items()
    assert name == f"{JOB['name']}-1"
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "batch/v1", "kind": "Job", **JOB}]
    assert "generateName" not in job["metadata"]
    assert job["spec"] == read("kubernetes/nightly/rayjob.yaml")["spec"]


def test_a_run_that_somebody_deletes_ends_the_night() -> None:
    cluster = Cluster(ended(0))
    ask = cluster.ask

    def forgetful(method: str, name: str, body: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if method == "GET" and cluster.polls.get(name, 0) == 2:
            return None
        return ask(method, name, body)

    template = read("kubernetes/nightly/rayjob.yaml")
    assert nightly.run_night(template, JOB, forgetful, cluster.slept.append) == 130


class Server(ThreadingHTTPServer):
    answers: list[int]
    asked: list[tuple[str, str, str]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.answers.pop(0))
        self.end_headers()
        self.wfile.write(json.dumps({"kind": "RayJob"}).encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that Kubernetes mounts into a pod. The server of the tests has no TLS."""
    (tmp_path / "namespace").write_text("rollcall")
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setattr(nightly.ssl, "create_default_context", lambda cafile: None)
    urlopen = nightly.urllib.request.urlopen

    def without_tls(request: Any, data: bytes | None, timeout: float, context: None) -> Any:
        request.full_url = request.full_url.replace("https:", "http:")
        return urlopen(request, data, timeout=timeout)

    monkeypatch.setattr(nightly.urllib.request, "urlopen", without_tls)
    return tmp_path


@pytest.mark.parametrize(
    ("method", "answers", "found"),
    [
        ("GET", [200], True),
        ("GET", [404], False),
        ("POST", [201], True),
        ("POST", [409], False),
        ("GET", [503, 429, 500, 200], True),
    ],
)
def test_the_api_server_is_asked_until_it_answers(
    server: Server, account: Path, method: str, answers: list[int], found: bool
) -> None:
    server.answers = list(answers)
    slept: list[float] = []
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    ask = nightly.asker(environ, account, slept.append)
    body = {"metadata": {"name": "night"}} if method == "POST" else None
    assert (ask(method, "" if body else "night", body) is not None) is found
    path = "/apis/ray.io/v1/namespaces/rollcall/rayjobs" + ("" if body else "/night")
    assert server.asked == [(method, path, "Bearer secret")] * len(answers)
    assert len(slept) == len(answers) - 1


@pytest.mark.parametrize(("method", "answer"), [("GET", 403), ("POST", 404), ("POST", 422)])
def test_a_refusal_ends_the_night_with_its_words(server: Server, account: Path, method: str, answer: int) -> None:
    server.answers = [answer]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    with pytest.raises(SystemExit, match=str(answer)):
        nightly.asker(environ, account, lambda _: None)(method, "", {} if method == "POST" else None)
