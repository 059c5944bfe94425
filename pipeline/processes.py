"""The identity of a process, so that others on its machine can tell later whether it has ended."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

PROC = Path("/proc")
ENDED = frozenset({"Z", "X", "x"})
"""The states of a process that has ended and that its parent has not reaped yet."""
STATE, STARTED = 0, 19
"""Positions in /proc/PID/stat, counted from behind the name of the process."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of one boot of one machine.

    A number alone does not identify a process: numbers are used again, and every container counts its own.

    boot: random id of the boot of the machine. It tells machines apart as well.
    namespace: the kernel's name for the process numbers that count here.
    pid: number of the process.
    started: clock ticks between the boot and the start of the process.
    """

    boot: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def of_this_process(cls) -> Self | None:
        """Return the identity of this process, or None on a system without /proc."""
        try:
            boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
            namespace = os.readlink(PROC / "self/ns/pid")
            _, started = _look(os.getpid())
        except (OSError, ValueError, IndexError):
            return None
        return cls(boot, namespace, os.getpid(), started)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any] | None) -> Self | None:
        return None if fields is None else cls(**{name: fields[name] for name in cls.__slots__})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def has_ended(self) -> bool:
        """Return whether the process has certainly ended. False if this process cannot know."""
        here = self.of_this_process()
        if here is None or (here.boot, here.namespace) != (self.boot, self.namespace):
            return False
        try:
            state, started = _look(self.pid)
        except FileNotFoundError:
            return True
        except (OSError, ValueError, IndexError):
            return False
        return state in ENDED or started != self.started


def _look(pid: int) -> tuple[str, int]:
    """Return the state of a process and its start in ticks since the boot. Raises FileNotFoundError if it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except ProcessLookupError:  # it ended while it was read
        raise FileNotFoundError(pid) from None
    fields = stat.rpartition(")")[2].split()  # the name of a process may contain spaces and brackets
    return fields[STATE], int(fields[STARTED])
