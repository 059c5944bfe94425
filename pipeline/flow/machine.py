"""The cores, cards and memory that this process may use."""

import os
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

import psutil

from pipeline.models.gpu import count_gpus

CGROUP = Path("/sys/fs/cgroup")
"""The limits of a container (control groups, version 2)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, or a cluster as a whole.

    cpus: number of cores, at least 1. A container may have a part of one.
    gpus: number of cards.
    memory_bytes: of the main memory.
    """

    cpus: float
    gpus: float
    memory_bytes: float


def this_machine() -> Machine:
    """Return what this process may use of this machine, within its affinity, the limits of its container and
    CUDA_VISIBLE_DEVICES."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _limit("cpu.max").partition(" ")
    limited = int(quota) / int(period) if quota.isdigit() and period.isdigit() else inf
    most_bytes = _limit("memory.max")
    memory_bytes = min(psutil.virtual_memory().total, int(most_bytes) if most_bytes.isdigit() else inf)
    return Machine(max(1.0, min(cores, limited)), count_gpus(), memory_bytes)


def _limit(name: str) -> str:
    with suppress(OSError):
        return (CGROUP / name).read_text().strip()
    return ""
