"""A worker that Kubernetes ends tells Ray so, and waits for its chunks."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.infra.manifests import INFRA
from tests.patience import PATIENCE_S

RAYLET = ["/usr/local/bin/raylet", "--node_id=ab12", "--port=0"]


def drain(
    tmp_path: Path, processes: list[list[str]], ray: str, *, sleep: str, seconds: int = 600
) -> tuple[list[str], int]:
    """Run the script beside these processes. Return the arguments that `ray` got, and how often it slept.

    sleep: what happens while it sleeps.
    """
    for index, words in enumerate(processes):
        folder = tmp_path / "proc" / str(index)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    (tmp_path / "proc").mkdir(exist_ok=True)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("ray", f'echo "$@" >> asked; {ray}'), ("sleep", f"echo >> slept; {sleep}")):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    environ = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    command = ["bash", str(INFRA / "drain.sh"), str(seconds), str(tmp_path / "proc")]
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=PATIENCE_S)
    asked, slept = tmp_path / "asked", tmp_path / "slept"
    return asked.read_text().split() if asked.exists() else [], len(slept.read_text()) if slept.exists() else 0


def test_the_node_is_drained_as_preempted(tmp_path: Path) -> None:
    asked, _ = drain(tmp_path, [["bash"], RAYLET], "true", sleep="true", seconds=3)
    assert asked[:5] == ["drain-node", "--node-id", "ab12", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    assert asked[-2:] == ["--deadline-remaining-seconds", "3"]


@pytest.mark.parametrize(
    ("processes", "ray", "waits"),
    [
        ([RAYLET, ["ray::MapWorker(MapBatches(observe))"]], "true", True),
        ([RAYLET, ["ray::IDLE"], ["ray::RuntimeEnvAgent"], ["ray::DashboardAgent"]], "true", False),
        ([RAYLET, ["ray::MapWorker(MapBatches(observe))"]], "exit 1", False),
        ([["bash"]], "true", False),
    ],
    ids=["a chunk is in flight", "nothing runs", "the head is gone", "Ray does not run"],
)
def test_it_waits_only_for_work(tmp_path: Path, processes: list[list[str]], ray: str, waits: bool) -> None:
    _, slept = drain(tmp_path, processes, ray, sleep="rm -r proc/1")  # then the work is over
    assert slept == waits


def test_it_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    asked, _ = drain(tmp_path, [RAYLET, ["ray::MapWorker"]], "true", sleep="exec /bin/sleep .1", seconds=1)
    assert asked
