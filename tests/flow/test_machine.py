import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.flow import machine
from pipeline.flow.machine import Machine, this_machine


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of the limits of a container on a machine of 16 cores with 64 GB and 2 cards."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(machine, "count_gpus", lambda: 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 << 30))
    return tmp_path


def test_a_machine_without_limits_is_used_whole(bare: Path) -> None:
    assert this_machine() == Machine(16, 2, 64 << 30)
    (bare / "cpu.max").write_text("max 100000\n")
    (bare / "memory.max").write_text("max\n")
    assert this_machine() == Machine(16, 2, 64 << 30)


def test_the_limits_of_a_container_are_kept(bare: Path) -> None:
    (bare / "cpu.max").write_text("350000 100000\n")
    (bare / "memory.max").write_text(f"{4 << 30}\n")
    assert this_machine() == Machine(3.5, 2, 4 << 30)
    (bare / "cpu.max").write_text("50000 100000\n")
    assert this_machine().cpus == 1
