"""The events of a run, as JSON lines in the output. They stay when the machines of the run are gone.

    _events/RUN/WRITER.NNNN.jsonl    lines of one process, in order; it begins another file when one is large

Every process of a run writes files of its own, because an object store cannot append and two writers would overwrite
each other. A file is replaced whole, so that no reader ever sees a part of a line. A process that is killed, as
Ray's workers are at the end of a run, loses the lines of its last FLUSH_EVERY_S seconds.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from pipeline.errors import MachineError, PassingError, UserError
from pipeline.storage.store import Store
from pipeline.text import storable

FOLDER = "_events"
FLUSH_EVERY_S = 10.0
FILE_BYTES = 512 << 10
"""The size of a file after which its writer begins another one."""
LONGEST_MESSAGE = 8_000
"""Characters. A traceback fits."""
READERS = 32
DRIVER = "driver"
FIELDS = (
    *("ts", "level", "event", "run", "job", "node", "pool", "stage", "video", "chunk", "attempt", "kind", "message"),
)
"""The fields of every line, null where they do not apply. Some events have further ones."""
SECRET_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY", re.IGNORECASE)
LEAST_SECRET = 8
"""Characters. Shorter values of such variables are words like `true`, and no secrets."""
ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
PLACE = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s'\"<>)]*)", re.IGNORECASE)
HIDDEN = "***"

stderr: TextIO | None = None
"""The place for lines on stderr, in a process whose stderr leads nowhere."""

Line = dict[str, Any]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class EventTarget:
    """The run whose events a process writes. It travels to every process of the run.

    uri: the output.
    run_id: the run.
    job: the id under which the run was submitted to a cluster, or None.
    to_stderr: whether every line goes to stderr too.
    """

    uri: str
    run_id: str
    job: str | None = None
    to_stderr: bool = False


class EventLog:
    """Writes the lines of one process. Errors of the place never reach its caller: the lines wait for the next time.

    target: the run.
    writer: name of the process, unique in the run.
    node: name of the machine.
    now: the clock of the lines.
    """

    def __init__(self, target: EventTarget, writer: str, node: str, *, now: Clock = utc_now) -> None:
        self.target, self._writer, self._node, self._now = target, writer, node, now
        self._store = Store(target.uri)
        self._secrets = secrets_of(os.environ)
        self._file, self._lines, self._num_bytes = 0, [], 0
        self._is_changed = False
        self._writing, self._adding = threading.Lock(), threading.Lock()

    def add(self, event: str, level: str = "info", *, hidden: str = "", **fields: Any) -> None:
        """Add a line. `fields` are those of FIELDS and any others.

        hidden: the address of the source at work. Texts show no more of it than its bucket.
        """
        line = dict.fromkeys(FIELDS) | {
            "ts": self._now().isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            "run": self.target.run_id,
            "job": self.target.job,
            "node": self._node,
        }
        line |= {name: self._clean(value, hidden) for name, value in fields.items()}
        text = json.dumps(line, ensure_ascii=False)
        with self._adding:
            self._lines.append(text)
            self._is_changed = True
        if self.target.to_stderr:
            with suppress(OSError, ValueError):  # the reader has left
                print(text, file=stderr or sys.stderr, flush=True)

    def flush(self) -> None:
        """Write the lines that are new. A place that fails gets them at the next call."""
        with self._writing:
            with self._adding:
                if not self._is_changed:
                    return
                lines, self._is_changed = list(self._lines), False
            content = "".join(f"{line}\n" for line in lines).encode()
            try:
                self._store.put(f"{folder_of(self.target.run_id)}/{self._writer}.{self._file:04d}.jsonl", content)
            except (OSError, PassingError, MachineError, UserError):
                self._is_changed = True
                return
            if len(content) > FILE_BYTES:
                with self._adding:
                    del self._lines[: len(lines)]
                self._file += 1

    def _clean(self, value: Any, hidden: str) -> Any:
        if not isinstance(value, str):
            return value
        if hidden:
            value = value.replace(hidden, _bucket_of(hidden)).replace(hidden.rpartition("/")[2] or hidden, "…")
        return clean(value, self._secrets)[:LONGEST_MESSAGE]


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the variables that hold secrets by their names, the longest first."""
    values = {value for name, value in environment.items() if SECRET_NAMES.search(name) and len(value) >= LEAST_SECRET}
    return tuple(sorted(values, key=len, reverse=True))


def clean(text: str, secrets: Sequence[str] = ()) -> str:
    """Return `text` without secrets. Of the address of an object only the scheme and the bucket or host are left,
    because the rest can hold a signature, or a name that says who is in the picture."""
    text = PLACE.sub(_place_of, storable(text))
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return ACCESS_KEY.sub(HIDDEN, text)


def _bucket_of(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/…" if separator else "the source"


def _place_of(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    whole = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = whole.rpartition("@")[2].rstrip(".,;:")
    after = rest[len(whole) :]
    end = rest[len(rest.rstrip(".,;:")) :]
    return f"{scheme}://{host}{'/…' if after.strip('/') else ''}{end}"


def folder_of(run_id: str) -> str:
    """Return the folder of a run's events."""
    return f"{FOLDER}/{run_id}"


def last_run(store: Store) -> str | None:
    """Return the run that began last, or None if there are no events."""
    return max(store.folders(FOLDER), default=None)


def newest_files(store: Store, run_id: str) -> list[str]:
    """Return the newest file of each writer of a run, that of the driver first."""
    newest: dict[str, str] = {}
    for name in store.names(folder_of(run_id)):
        newest[name.rsplit(".", 2)[0]] = name  # the names come in order
    return sorted(newest.values(), key=lambda name: not name.rpartition("/")[2].startswith(f"{DRIVER}."))


def read_lines(store: Store, names: Sequence[str]) -> list[Line]:
    """Return the lines of some files, in order of their times. A file that is gone has none."""
    with ThreadPoolExecutor(max(1, min(READERS, len(names)))) as pool:
        contents = list(pool.map(lambda name: _read(store, name), names))
    return sorted((line for content in contents for line in _parsed(content)), key=lambda line: line["ts"])


def read_run(store: Store, run_id: str) -> list[Line]:
    """Return all lines of a run, in order of their times."""
    return read_lines(store, store.names(folder_of(run_id)))


def drop_old_runs(store: Store, limit: datetime, *, spared: str) -> None:
    """Remove the events of the runs that began before `limit`, but not those of the run `spared`."""
    for run_id in store.folders(FOLDER):
        began = began_at(run_id)
        if run_id != spared and began is not None and began < limit:
            store.delete_tree(folder_of(run_id))


def began_at(run_id: str) -> datetime | None:
    """Return the time at which a run began, which is in its id, or None for an id of another form."""
    with suppress(ValueError):
        return datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return None


def days_ago(days: float) -> datetime:
    return utc_now() - timedelta(days=days)


def _read(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except FileNotFoundError:
        return b""


def _parsed(content: bytes) -> Iterator[Line]:
    for text in content.splitlines():
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and isinstance(line.get("ts"), str):
                yield line
