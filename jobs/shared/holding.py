"""Hold the lease of an output while a command writes to it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jobs.cli import console
from pipeline.errors import LeaseError, MachineError, PassingError, UserError
from pipeline.flow import journal
from pipeline.storage.claims import probe, register_of
from pipeline.storage.lease import GRACE_S, Keeper, Lease, take
from pipeline.storage.store import Store

WITHOUT_LEASE = frozenset({"export"})
"""The folders that commands without a lease write to."""


@contextmanager
def holding(store: Store, command: str, run_id: str, wait_s: float = 0.0) -> Iterator[Store]:
    """Hold the lease of an output during the block. Yield the store through which the block must write.

    Files that killed runs left half-written are removed. If another run takes over, the main thread is interrupted,
    and the block ends with LeaseError. SIGTERM counts as an interruption, like Ctrl-C, so that the lease is given back.

    wait_s: how long to wait for another run. Raises LeaseError after that.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        plain = Store(store.uri)
        lease = take(register_of(plain, probe(plain)), command, run_id, wait_s=wait_s, say=console.say)
        with _keeping(lease) as keeper:
            is_orderly = False
            try:
                if lease.was_silent and not store.is_local:
                    console.say(f"the last run did not end; waiting {GRACE_S:g} s, so that its last writes are over")
                    time.sleep(GRACE_S)
                if not lease.follows_orderly_end:
                    store.sweep(WITHOUT_LEASE)
                yield store.guarded(lease.fence)
                is_orderly = True
            finally:
                if not is_orderly and keeper.loss is None:  # workers may have been killed while they wrote
                    store.sweep(WITHOUT_LEASE)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _keeping(lease: Lease) -> Iterator[Keeper]:
    """Renew a lease during the block, and end it. If it is lost, the block ends with LeaseError."""

    def lose() -> None:
        journal.note_lease_lost(str(keeper.loss))
        _interrupt()

    keeper = Keeper(lease, lose, console.say, journal.lease_was_renewed)
    try:
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.stop()
            if keeper.loss is None:
                with suppress(LeaseError, MachineError, PassingError, UserError):  # it ends by itself after its time
                    lease.end()
    except KeyboardInterrupt:
        if keeper.loss is not None:
            raise keeper.loss from None
        raise


def _interrupt() -> None:
    """Interrupt the main thread, also in a system call that waits."""
    number = threading.main_thread().ident
    assert number is not None
    signal.pthread_kill(number, signal.SIGTERM)  # shells start background jobs with SIGINT ignored
