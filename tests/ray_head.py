"""A real head of a Ray cluster on this machine, with the job server, for tests of `ray job submit`.

It has ports and a folder of its own, so that no other Ray on the machine meets it. It needs ray[default].
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.patience import eventually

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
WORKER_PORTS = (21_000, 21_999)
ENDS_S = 240
STATUS = re.compile(r"(?:Status: |was |Job '[^']+' )(PENDING|RUNNING|stopped|succeeded|failed)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RayHead:
    """A head that takes jobs.

    address: of its job server.
    metrics_port: the port on which Prometheus reads its metrics.
    """

    address: str
    metrics_port: int

    def submit(self, job: str, *arguments: object, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """Submit `python -m jobs.process ARGUMENTS` with the tree of this project as working directory.

        job: its submission id.
        wait: whether to follow the job to its end.
        """
        environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
        command = ["submit", "--submission-id", job, "--working-dir", str(ROOT)]
        command += ["--runtime-env-json", json.dumps(environment), *([] if wait else ["--no-wait"])]
        return self._job(*command, "--", sys.executable, "-m", "jobs.process", *map(str, arguments))

    def stop(self, job: str) -> subprocess.CompletedProcess[str]:
        """Stop a job and wait until it has ended."""
        return self._job("stop", job)

    def status(self, job: str) -> str:
        """Return `pending`, `running`, `stopped`, `succeeded` or `failed`."""
        states = STATUS.findall(self._job("status", job).stdout)
        return states[-1].lower() if states else ""

    def logs(self, job: str) -> str:
        return self._job("logs", job).stdout

    def _job(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [RAY, "job", verb, "--address", self.address, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ENDS_S, env=_environment(), cwd=ROOT
        )


@contextmanager
def ray_head(num_cpus: int = 2, num_gpus: int = 0) -> Iterator[RayHead]:
    """Start a head of so many CPUs, and end it with all its processes.

    num_gpus: what Ray takes for GPUs. There need not be any.
    """
    port, dashboard, agent, agent_grpc, metrics = _free_ports(5)
    with tempfile.TemporaryDirectory(prefix="rh", dir="/tmp") as folder:  # its sockets allow no long path
        command = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"]
        command += [f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
        command += [f"--metrics-export-port={metrics}", f"--num-cpus={num_cpus}", f"--temp-dir={folder}/t"]
        command += [f"--min-worker-port={WORKER_PORTS[0]}", f"--max-worker-port={WORKER_PORTS[1]}"]
        command += [f"--object-store-memory={400 << 20}", f"--num-gpus={num_gpus}"]
        log = Path(folder, "log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=_environment()
            )
        try:
            _wait_for(log, "Ray runtime started", process)
            head = RayHead(f"http://127.0.0.1:{dashboard}", metrics)
            yield head
        finally:
            # `ray stop` would end every Ray on this machine.
            _end_group(process)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    return kept | {"RAY_AUTH_MODE": "disabled", "NO_COLOR": "1"}


def _free_ports(count: int) -> Sequence[int]:
    """Return ports outside those that Ray gives to workers by default."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    try:
        eventually(lambda: process.poll() is not None or text in log.read_text())
    finally:
        assert text in log.read_text(), f"the head did not start: {log.read_text()[-2000:]}"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue
