"""Two pools whose stages misbehave, for a worker that imports nothing heavy for them."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import rows
from pipeline.errors import DataError, PassingError, UserError
from pipeline.flow.pools import Maps
from pipeline.flow.stage import Limits, PoolOfStages, Resources, Stage
from pipeline.storage.event_log import EventTarget
from pipeline.storage.faults import patiently
from pipeline.storage.ledger import ChunkSpan, Ledger
from pipeline.storage.store import Guard, Store
from tests.patience import eventually

RESOURCES = Resources(num_cpus=1, num_gpus=0, min_workers=1, max_workers=1)

Misdeeds = Mapping[tuple[str, int], Callable[[], object]]
"""Calls that replace the work, by video and first cell."""
Chunks = Mapping[ChunkSpan, tuple[pa.Table, pa.Table]]
"""The objects to commit for every video, by span."""


class Gone(BaseException):
    """Stands for the end of a process."""


def vanish() -> None:
    raise Gone


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(600)


def rot() -> None:
    raise DataError("no picture")


def sleep_on() -> None:
    raise PassingError("asleep")


def stumble() -> None:
    """Fail once as a busy bucket does, and then succeed."""
    answers = [PassingError("s3://bucket/films/a.mp4: SlowDown"), None]

    def answer() -> None:
        if failure := answers.pop(0):
            raise failure

    patiently(answer, "s3://bucket/films/a.mp4", sleep=lambda _: None)


def err() -> None:
    raise ZeroDivisionError("nobody thought of this")


def note_and_sleep(note: Path, seconds: float) -> None:
    """Write down the node and the process, and take some time for the work. A second attempt is not noted."""
    import ray

    if not note.exists():
        place = {"node": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}
        note.with_suffix(".new").write_text(json.dumps(place))
        note.with_suffix(".new").replace(note)
    time.sleep(seconds)


def note_times(folder: Path, seconds: float) -> None:
    """Take some time for the work, and write down when it began and ended. The first waits for a second beside it."""
    began_s = time.monotonic()  # the same for all processes of a machine
    note = folder / f"{os.getpid()}-{threading.get_ident()}-{began_s}"
    note.touch()
    eventually(lambda: len(list(folder.iterdir())) > 1)
    time.sleep(seconds)
    note.write_text(json.dumps([os.getpid(), began_s, time.monotonic()]))


def most_at_once(folder: Path) -> int:
    """Return how many works of one process were under way at the same time, by the notes in `folder`."""
    worked = [json.loads(text) for note in folder.iterdir() if (text := note.read_text())]
    return max(
        sum(other == pid and began_s <= moment_s < ended_s for other, began_s, ended_s in worked)
        for pid, moment_s, _ in worked
    )


class SlowStore(Store):
    """A store whose first writer writes down where it works, and waits there for a while."""

    def __init__(self, uri: str, note: str, guard: Guard | None = None) -> None:
        super().__init__(uri, guard)
        self._note = note

    def __reduce__(self) -> Any:
        return SlowStore, (self.uri, self._note, self.guard)

    def put(self, name: str, content: bytes) -> None:
        if not os.path.exists(self._note):
            note_and_sleep(Path(self._note), 3)
        super().put(name, content)


def observe(misdeeds: Misdeeds, row: pa.Table) -> Iterator[pa.Table]:
    span = row.to_pylist()[0]
    for first, end in zip(span["borders"], [*span["borders"][1:], span["end_cell"]], strict=True):
        if first in span["durable"]:
            continue
        misdeeds.get((span["video_id"], first), int)()
        columns = dict.fromkeys(rows.CHUNK.names) | {"video_id": span["video_id"], "first_cell": first, "end_cell": end}
        yield pa.Table.from_pylist([columns], rows.CHUNK)


def commit(misdeeds: Misdeeds, ledger: Ledger, chunks: Chunks, row: pa.Table) -> pa.Table:
    video_id, first, end = (row[name][0].as_py() for name in ("video_id", "first_cell", "end_cell"))
    misdeeds.get((video_id, first), int)()
    if (first, end) in chunks:
        ledger.commit(video_id, (first, end), *chunks[first, end])
    return pa.table([[10], [0]], schema=rows.COMMITTED)


def pass_on(name: str, misdeeds: Misdeeds, row: pa.Table) -> pa.Table:
    """Do nothing for a chunk but the misdeed."""
    misdeeds.get((row["video_id"][0].as_py(), row["first_cell"][0].as_py()), int)()
    return pa.table({name: [True]})


def built(core: Any) -> Any:
    return core


def maps(
    ledger: Ledger,
    chunks: Chunks,
    *,
    observing: Misdeeds | None = None,
    committing: Misdeeds | None = None,
    between: Mapping[str, Misdeeds] | None = None,
    build: Callable[[Any], Any] = built,
    deadline_s: float = 60.0,
    max_attempts: int = 2,
    events: EventTarget | None = None,
) -> Maps:
    limits = Limits(ledger=ledger, run_id="run", max_attempts=max_attempts, deadline_s=deadline_s, events=events)
    chunk_needs = pa.schema([rows.CHUNK.field(name) for name in ("video_id", "first_cell", "end_cell")])
    first = Stage(
        name="observe",
        build=partial(build, partial(observe, observing or {})),
        needs=rows.SPAN,
        adds=pa.schema([]),
        splits=True,
    )
    second = Stage(
        name="commit",
        build=partial(build, partial(commit, committing or {}, ledger, chunks)),
        needs=chunk_needs,
        adds=rows.COMMITTED,
    )
    others = {
        name: Stage(
            name=name,
            build=partial(build, partial(pass_on, name, what)),
            needs=chunk_needs,
            adds=pa.schema([(name, pa.bool_())]),
        )
        for name, what in (between or {}).items()
    }
    named = {"observe": first, **others, "enrich": second}
    made = [
        PoolOfStages(name=name, stages=(stage,), resources=RESOURCES, limits=limits) for name, stage in named.items()
    ]
    return Maps(made, made)


def crash_at_loading(core: Any) -> Any:
    crash()


def refuse(core: Any) -> Any:
    raise UserError("these are no weights")
