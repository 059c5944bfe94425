"""The journal of this process: what it does, as events in the output and as metrics.

Each process of a run opens it once and notes what happens. The work that is being done, such as a chunk, is stated
once, and every line of that time names it. Without an open journal nothing is written.
"""

import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pipeline.chunk import decoder
from pipeline.flow import metrics
from pipeline.storage import faults, remote
from pipeline.storage.event_log import DRIVER, FLUSH_EVERY_S, EventLog, EventTarget

THREAD = "journal"
LAST_WORDS_S = 5
"""Seconds that a process which is about to end spends on its last lines."""


@dataclass(slots=True)
class _Journal:
    """The state of this process.

    at_work: by thread, the work that it does, for the threads that have none.
    """

    log: EventLog | None = None
    at_work: dict[int, dict[str, Any]] = field(default_factory=dict)
    lease_renewed_s: float | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)


_journal = _Journal()
_at_work: ContextVar[dict[str, Any]] = ContextVar("at_work", default={})  # noqa: B039  (nobody changes it in place)
"""The work of this thread. A thread that reads for it, as one of several, is started with a copy of the context."""


def open_journal(target: EventTarget | None, writer: str | None = None) -> None:
    """Begin the journal of a run in this process, unless it has begun. None ends it.

    writer: name of this process. By default its machine and number.
    """
    with _journal.opening:
        if _journal.log is not None and target == _journal.log.target:
            return
        if _journal.log is not None:
            _journal.log.flush()
        _journal.log = None
        _journal.at_work.clear()  # a thread that was left behind may still be in a block
        if target is None:
            return
        node = platform.node() or "unknown"
        name = writer or f"{''.join(c if c.isalnum() else '-' for c in node)[:60]}-{os.getpid()}"
        _journal.log = EventLog(target, f"{name}-{secrets.token_hex(2)}" if writer is None else name, node)
        threading.Thread(target=_flush_often, args=(_journal.log,), daemon=True, name=THREAD).start()


def open_driver_journal(target: EventTarget) -> None:
    """Begin the journal of the process that leads the run."""
    open_journal(target, DRIVER)


def note(event: str, level: str = "info", **fields: Any) -> None:
    """Write a line about what happened."""
    if _journal.log is not None:
        _journal.log.add(event, level, **(_work_at_hand() | fields))


def flush() -> None:
    """Write the lines that are not in the output yet."""
    if _journal.log is not None:
        _journal.log.flush()


def flush_before_death() -> None:
    """Write the last lines of a process that is about to end, but do not wait long for the place."""
    if _journal.log is None:
        return
    writing = threading.Thread(target=flush, daemon=True, name=THREAD)
    writing.start()
    writing.join(LAST_WORDS_S)


@contextmanager
def working_on(**work: Any) -> Iterator[None]:
    """Name the work of the block in every line that this thread writes meanwhile, and that threads write which have no
    such block."""
    thread, works = threading.get_ident(), _journal.at_work
    before = works.get(thread)
    token = _at_work.set(_at_work.get() | work)
    works[thread] = _at_work.get()
    try:
        yield
    finally:
        _at_work.reset(token)
        if before is None:
            works.pop(thread, None)
        else:
            works[thread] = before


def _work_at_hand() -> dict[str, Any]:
    """Return the work of this thread, or of the one whose context it has. A thread without any reads for the work that
    began last."""
    return _at_work.get() or next(reversed(_journal.at_work.copy().values()), {})


def note_lease_taken(strength: str) -> None:
    """Note that this run holds the output now. strength: of the promise that no other run writes to it."""
    note("lease_taken", kind=strength)
    lease_was_renewed()


def lease_was_renewed() -> None:
    """State that the lease was renewed at this moment."""
    _journal.lease_renewed_s = time.monotonic()
    tell_lease_age()


def tell_lease_age() -> None:
    """State among the metrics how long ago the lease was renewed."""
    if _journal.lease_renewed_s is not None:
        metrics.set_value("rollcall_lease_age_s", time.monotonic() - _journal.lease_renewed_s)


def note_lease_lost(why: str) -> None:
    """Note that another run may write to the output now."""
    note("lease_lost", "error", message=why)


def _note_retry(kind: str, message: str, wait_s: float) -> None:
    fields: dict[str, Any] = {"kind": kind, "message": message, "wait_s": round(wait_s, 3)}
    if threading.current_thread().name == THREAD:  # its requests are not those of the chunk at work
        fields |= dict.fromkeys(_work_at_hand(), None) | {"stage": THREAD, "hidden": ""}
    note("storage_retried", "warning", **fields)
    metrics.count("rollcall_retries_total", kind=kind)


def _note_refusal(why: str) -> None:
    note("decoded_on_cpu", "warning", message=why)


def _count_read(num_bytes: int) -> None:
    metrics.count("rollcall_bytes_read_total", num_bytes)


def _flush_often(log: EventLog) -> None:
    while log is _journal.log:
        time.sleep(FLUSH_EVERY_S)
        log.flush()


faults.retry_listeners.append(_note_retry)
remote.read_listeners.append(_count_read)
decoder.refusal_listeners.append(_note_refusal)
