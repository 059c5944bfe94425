"""The claims of runs to an output, and the files in which they are stored.

_lease/lease.json               the claim of the holder, where the store can compare and swap: `full`
_lease/FENCE.json               the claims, the highest counts, where it can only create: `create-only`
_lease/FENCE-HOLDER.json        the same, where it can do neither: `advisory`
"""

import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, Self

from pipeline.errors import PassingError, UserError
from pipeline.processes import ProcessIdentity
from pipeline.storage.conditional import NoConditionsError
from pipeline.storage.store import Store

Strength = Literal["full", "create-only", "advisory"]
FOLDER = "_lease"
FILE = f"{FOLDER}/lease.json"
NUMBERED = re.compile(rf"{FOLDER}/(\d{{8}})(?:-[0-9a-f]+)?\.json")
SETTLE_S = 2.0
"""The seconds after which a new file is in the list of a store that has no conditions."""
TRIES = 3
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable in which a Ray job finds its description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run's claim to an output, as it is stored.

    fence: number of the claim. The next holder has a higher one.
    holder: random text that only the holder knows.
    run_id: of the run.
    host: name of its machine.
    job: submission id of its Ray job. None without one.
    command: `process` or `relink`.
    process: identity of the process that renews the claim. None if the system does not tell.
    taken_at, renewed_at: UTC time by the holder's clock. They are for people.
    num_renewals: changes with every renewal.
    ttl_s: seconds without a renewal after which another run may take over.
    ended: whether the run has ended in good order.
    """

    fence: int
    holder: str
    run_id: str
    host: str
    job: str | None
    command: str
    process: ProcessIdentity | None
    taken_at: datetime
    renewed_at: datetime
    num_renewals: int
    ttl_s: float
    ended: bool

    @classmethod
    def of_this_process(cls, command: str, run_id: str, ttl_s: float, fence: int) -> Self:
        now = datetime.now(UTC)
        return cls(
            fence=fence,
            holder=uuid.uuid4().hex,
            run_id=run_id,
            host=socket.gethostname(),
            job=_submission_id(),
            command=command,
            process=ProcessIdentity.of_this_process(),
            taken_at=now,
            renewed_at=now,
            num_renewals=0,
            ttl_s=ttl_s,
            ended=False,
        )

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Raises UserError if the content is no claim."""
        try:
            fields = json.loads(content)
            fields["process"] = ProcessIdentity.from_json(fields["process"])
            for name in ("taken_at", "renewed_at"):
                fields[name] = datetime.fromisoformat(fields[name])
            return cls(**{name: fields[name] for name in cls.__slots__})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where} is no lease; remove it if no run is writing there") from error

    def to_json(self) -> bytes:
        fields = asdict(self) | {name: getattr(self, name).isoformat() for name in ("taken_at", "renewed_at")}
        return json.dumps(fields, indent=2).encode()

    def facts(self) -> dict[str, Any]:
        """Return what programs may want to know about a holder."""
        named = {name: getattr(self, name) for name in ("run_id", "command", "host", "job", "fence")}
        times = {name: getattr(self, name).isoformat() for name in ("taken_at", "renewed_at")}
        return named | times | {"pid": self.process and self.process.pid, "is_silent": self.looks_silent()}

    def renewed(self, *, ended: bool = False) -> Self:
        return replace(self, num_renewals=self.num_renewals + 1, renewed_at=datetime.now(UTC), ended=ended)

    def looks_silent(self) -> bool:
        """Return whether the holder has missed its time, as far as two clocks can be compared."""
        return abs((datetime.now(UTC) - self.renewed_at).total_seconds()) > self.ttl_s

    def is_free(self) -> bool:
        """Return whether the holder has certainly ended."""
        return self.ended or (self.process is not None and self.process.has_ended())

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        number = f", process {self.process.pid}" if self.process else ""
        since = self.taken_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"run {self.run_id} ({self.command}) on {self.host}{number}{job} since {since}"


def _submission_id() -> str | None:
    try:
        return json.loads(os.environ[JOB])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        return None


# --- where claims are stored -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """A claim as it was read from the store.

    claim: the claim that counts. None if there is none.
    version: changes whenever the stored claim changes. Empty if there is none.
    """

    claim: Claim | None
    version: str

    @property
    def fence(self) -> int:
        return self.claim.fence if self.claim else 0


class Register(Protocol):
    """The stored claims of one output."""

    @property
    def store(self) -> Store: ...

    @property
    def strength(self) -> Strength: ...

    def read(self) -> StoredClaim: ...

    def claim(self, before: StoredClaim, claim: Claim) -> str | None:
        """Replace the claim that was read by a new one. Return the new version, or None if another run was quicker."""
        ...

    def renew(self, version: str, claim: Claim) -> str | None:
        """Store the next form of a holder's claim. Return its version, or None if another has taken over."""
        ...


@dataclass(slots=True)
class SwappedFile:
    """One file that is compared and swapped."""

    store: Store
    strength: Strength = "full"

    def read(self) -> StoredClaim:
        try:
            content, etag = self.store.read_with_etag(FILE)
        except FileNotFoundError:
            return StoredClaim(None, "")
        return StoredClaim(Claim.from_json(content, self.store.full(FILE)), etag)

    def claim(self, before: StoredClaim, claim: Claim) -> str | None:
        if before.claim is None:
            return self.store.create(FILE, claim.to_json())
        return self.renew(before.version, claim)

    def renew(self, version: str, claim: Claim) -> str | None:
        return self.store.replace(FILE, claim.to_json(), version)


@dataclass(slots=True)
class NumberedFiles:
    """One file for each claim. The highest number counts, and of two with one number the first in order of names.

    Where the store can create files, no two have one number. Elsewhere the claimants wait for each other to appear.
    """

    store: Store
    strength: Strength
    sleep: Callable[[float], None] = time.sleep

    def read(self) -> StoredClaim:
        for _ in range(TRIES):
            if (name := self._leader()) is None:
                return StoredClaim(None, "")
            try:
                content = self.store.read(name)
            except FileNotFoundError:  # the next holder has removed it
                continue
            return StoredClaim(Claim.from_json(content, self.store.full(name)), _version(name, content))
        raise PassingError(f"{self.store.full(FOLDER)}: the claims change too fast")

    def claim(self, before: StoredClaim, claim: Claim) -> str | None:
        name = self._name(claim)
        if self.strength == "create-only":
            if self.store.create(name, claim.to_json()) is None:
                return None
        else:
            self.store.put(name, claim.to_json())
            self.sleep(SETTLE_S)
        if self._leader() != name:
            self.store.delete(name)
            return None
        for other in self._names():
            if _fence(other) < claim.fence - 1:
                self.store.delete(other)
        return _version(name, claim.to_json())

    def renew(self, version: str, claim: Claim) -> str | None:
        name = self._name(claim)
        if self._leader() != name:
            return None
        self.store.put(name, claim.to_json())
        return _version(name, claim.to_json())

    def _name(self, claim: Claim) -> str:
        holder = "" if self.strength == "create-only" else f"-{claim.holder}"
        return f"{FOLDER}/{claim.fence:08d}{holder}.json"

    def _names(self) -> list[str]:
        return [name for name in self.store.names(FOLDER) if NUMBERED.fullmatch(name)]

    def _leader(self) -> str | None:
        return min(self._names(), key=lambda name: (-_fence(name), name), default=None)


def _fence(name: str) -> int:
    match = NUMBERED.fullmatch(name)
    assert match is not None
    return int(match[1])


def _version(name: str, content: bytes) -> str:
    return hashlib.sha256(name.encode() + content).hexdigest()


def register_of(store: Store, strength: Strength) -> Register:
    return SwappedFile(store) if strength == "full" else NumberedFiles(store, strength)


def probe(store: Store) -> Strength:
    """Return the strength of a lease in this store. A store that ignores conditions does not say so, so try."""
    mark = f"{FOLDER}/.probe-{uuid.uuid4().hex}"

    def is_written(content: bytes, etag: str | None) -> str | None:
        """Return the etag of the mark if `content` was written to it. The answer may have got lost."""
        if etag is not None:
            return etag
        stored, etag = store.read_with_etag(mark)
        return etag if stored == content else None

    try:
        etag = is_written(b"1", store.create(mark, b"1"))
        if etag is None or store.create(mark, b"2") is not None:
            return "advisory"
    except NoConditionsError:
        return "advisory"
    else:
        try:
            if store.replace(mark, b"3", f'"{uuid.uuid4().hex}"') is not None:
                return "create-only"
            return "full" if is_written(b"4", store.replace(mark, b"4", etag)) else "create-only"
        except (NoConditionsError, UserError):  # S3 wants the right to read for this
            return "create-only"
    finally:
        store.delete(mark)


def latest_claim(store: Store) -> Claim | None:
    """Return the claim of the latest holder of an output, ended or not. None if there is none or it cannot be read."""
    claims = []
    for register in (SwappedFile(store), NumberedFiles(store, "advisory")):
        try:
            claims.append(register.read().claim)
        except UserError:
            continue
    return max((claim for claim in claims if claim), key=lambda claim: claim.renewed_at, default=None)
