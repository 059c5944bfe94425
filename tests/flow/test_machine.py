import os
from math import inf
from pathlib import Path

import pytest

from pipeline.flow import machine
from pipeline.flow.machine import Machine, this_machine


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of the limits of a container on a machine of 16 cores with 64 GB and 2 cards."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(machine, "count_gpus", lambda: 2)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 24}[name])
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


def test_a_system_that_does_not_state_its_memory_is_not_limited_by_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert this_machine().memory_bytes == inf
