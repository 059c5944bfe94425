"""The lease of an output: one run at a time may write to it.

Contract:
- A holder renews its claim (`claims`). A claim that stays as it is for `ttl_s` may be taken over. Every run measures
  that by its own clock, because the clocks of two machines differ.
- The number of a claim, its fence, only grows. A publication is a compare-and-swap in `videos`, so that the store
  itself refuses the row of a run that slept while another took over (`records`). Before other writes, a process
  looks at the claim, unless it did so in the last CONFIRMED_S seconds.
- A run that takes over from a silent one waits for longer than that before its first write.
- An answer of the store that got lost is settled by reading the claim, which names its holder.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from pipeline.errors import LeaseError, MachineError, PassingError
from pipeline.storage.claims import FOLDER, Claim, Register, StoredClaim, Strength
from pipeline.storage.store import Store

TTL_S = 90.0
RENEWALS_PER_TTL = 3
TOLD_FAILURES = 2
MOST_FAILURES = 20
CONFIRMED_S = 20.0
"""The seconds for which a look at the claim counts, on a store where it costs a request."""
GRACE_S = CONFIRMED_S + 10
"""The seconds that a run waits after it has taken over from a silent one."""
POLL_S = 1.0
TRIES = 3
UNCLEAR = (PassingError, MachineError, OSError)
"""The failures that leave open whether the store has written."""


def uptime() -> float:
    """Return the seconds of a clock that is never set. It keeps running while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Fence:
    """The right of one holder to write, as a guard of stores. It travels to the workers of a run."""

    def __init__(
        self,
        register: Register,
        number: int,
        holder: str,
        *,
        is_public: bool = True,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._register, self._number, self._holder, self._clock = register, number, holder, clock
        self._is_public = is_public
        self._confirmed = -float("inf")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_confirmed": -float("inf")}  # the clock of another machine shows another time

    def for_work(self) -> "Fence":
        return Fence(self._register, self._number, self._holder, is_public=False, clock=self._clock)

    @property
    def strength(self) -> Strength:
        return self._register.strength

    @property
    def swaps(self) -> bool:
        return self._is_public and self.strength == "full"

    @property
    def note(self) -> str:
        return f"{self._number} {self._holder}"

    def confirm(self, *, at_once: bool = False) -> None:
        """Raise LeaseError if another run has taken over."""
        now = self._clock()
        lasts_s = 0.0 if at_once or self._register.store.is_local else CONFIRMED_S
        if now - self._confirmed < lasts_s:
            return
        claim = self._register.read().claim
        if claim is None or claim.holder != self._holder or claim.ended:
            raise lost(self._register.store, claim)
        self._confirmed = now


def lost(store: Store, claim: Claim | None) -> LeaseError:
    who = f"{claim} has taken it over" if claim else "its lease was removed"
    return LeaseError(
        f"{store.uri} is no longer held by this run: {who}; nothing more is written. Start one run at a time"
    )


def refused(store: Store, claim: Claim) -> LeaseError:
    return LeaseError(f"{store.uri} is held by {claim}; end that run, or wait for its end with --wait-lease SECONDS")


class Lease:
    """A held lease. `renew` must be called RENEWALS_PER_TTL times in `ttl_s` seconds.

    fence: guards the stores of the run.
    was_silent: whether the lease was taken from a holder that has not ended in good order.
    follows_orderly_end: whether it was taken from one that has. Both are False for the first lease of an output.
    """

    def __init__(
        self,
        register: Register,
        claim: Claim,
        version: str,
        *,
        before: Claim | None = None,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._register, self._claim, self._version = register, claim, version
        self.was_silent = before is not None and not before.ended
        self.follows_orderly_end = before is not None and before.ended
        self.fence = Fence(register, claim.fence, claim.holder, clock=clock)

    @property
    def ttl_s(self) -> float:
        return self._claim.ttl_s

    def renew(self) -> None:
        """Renew the lease. Raises LeaseError if another run has taken over, and the store's errors."""
        self._store(self._claim.renewed())

    def end(self) -> None:
        """Free the output for the next run."""
        self._store(self._claim.renewed(ended=True))

    def _store(self, claim: Claim) -> None:
        unclear = None
        for _ in range(TRIES):
            unclear = None
            try:
                version = self._register.renew(self._version, claim)
            except UNCLEAR as error:
                version, unclear = None, error
            if version is None:
                stored = self._register.read()
                if stored.claim is None or stored.claim.holder != self._claim.holder:
                    raise lost(self._register.store, stored.claim)
                self._version = stored.version
                version = stored.version if stored.claim == claim else None  # it was written, and the answer got lost
            if version is not None:
                self._claim, self._version = claim, version
                return
        raise unclear or PassingError(f"{self._register.store.full(FOLDER)}: the lease cannot be renewed")


def take(
    register: Register,
    command: str,
    run_id: str,
    *,
    wait_s: float = 0.0,
    ttl_s: float | None = None,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = uptime,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Take the lease of an output. Raises LeaseError if another run holds it and goes on to do so for `wait_s`.

    A holder that seems to have died is watched for its `ttl_s`, even if that takes longer than `wait_s`.

    ttl_s: of the new claim; None: TTL_S.
    say: reports a wait.
    """
    store, started = register.store, clock()
    first, version, unchanged_since = None, None, started
    failures = 0
    while failures < MOST_FAILURES:
        current, now = register.read(), clock()
        if current.version != version:
            version, unchanged_since = current.version, now
        held = current.claim
        if held is None or held.is_free() or now - unchanged_since >= held.ttl_s:
            mine = Claim.of_this_process(command, run_id, TTL_S if ttl_s is None else ttl_s, current.fence + 1)
            if (taken_version := _claim(register, current, mine)) is not None:
                return Lease(register, mine, taken_version, before=held, clock=clock)
            failures += 1
            continue
        if first is None:
            first = current
        seems_dead = current == first and held.looks_silent()
        if now - started >= wait_s and not seems_dead:
            raise refused(store, held)
        if current == first and now == unchanged_since:
            seems = f"silent since {held.renewed_at:%Y-%m-%d %H:%M:%S UTC}" if seems_dead else "at work"
            say(f"waiting for {held}, which is {seems}")
        sleep(min(POLL_S, held.ttl_s / 4))
    raise PassingError(f"{store.full(FOLDER)}: the lease cannot be taken")


def _claim(register: Register, before: StoredClaim, mine: Claim) -> str | None:
    """Replace the claim that was read, and settle an unclear answer by reading again. Return the version of `mine`, or
    None if another run was quicker."""
    unclear = None
    try:
        version = register.claim(before, mine)
    except UNCLEAR as error:
        version, unclear = None, error
    if version is None:
        after = register.read()
        if after.claim is not None and after.claim.holder == mine.holder:  # the answer got lost
            return after.version
        if unclear is not None and after == before:
            raise unclear
    return version


class Keeper:
    """Renews a lease in a thread of its own, from `start` to `stop`.

    loss: why the lease is lost. None while it is held.
    on_loss: is called in that thread.
    say: reports that the lease cannot be renewed.
    on_renewal: is called in that thread after each renewal.
    """

    def __init__(
        self,
        lease: Lease,
        on_loss: Callable[[], None],
        say: Callable[[str], None],
        on_renewal: Callable[[], None] = lambda: None,
    ) -> None:
        self.loss: LeaseError | None = None
        self._lease, self._on_loss, self._say, self._on_renewal = lease, on_loss, say, on_renewal
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        every_s = self._lease.ttl_s / RENEWALS_PER_TTL
        num_failures = 0
        while not self._is_stopped.wait(every_s):
            try:
                self._lease.renew()
                self._on_renewal()
                num_failures = 0
            except LeaseError as error:
                self.loss = error
                self._on_loss()
                return
            except Exception as error:  # the next renewal may succeed; until then nobody else can hold the lease
                num_failures += 1
                if num_failures == TOLD_FAILURES:
                    self._say(f"the lease could not be renewed for {num_failures * every_s:g} s: {error}")
