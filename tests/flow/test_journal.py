"""What processes write down while they work, while they fail, and before they die."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.chunk import decoder
from pipeline.flow import journal
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.local_engine import WorkerProcess, run
from pipeline.flow.pools import Maps
from pipeline.media.ahead import ahead
from pipeline.storage import event_log, tables
from pipeline.storage.event_log import EventTarget, Line
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.builders import chunk
from tests.flow import misdeeds
from tests.flow.test_local_engine import CHUNKS, FILM, WorkerHere, work

RUN = "20261126T010203-ab12"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    tables.create(Store(str(tmp_path)), keep_biometrics=False)
    return Ledger(Store(str(tmp_path)), Keys("o", "e"))


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventTarget]:
    yield EventTarget(str(tmp_path), RUN)
    journal.open_journal(None)


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """Return the lines of the run, with only the named fields."""

    def lines(*fields: str) -> list[tuple[Any, ...]]:
        journal.flush()
        read: list[Line] = event_log.read_run(Store(str(tmp_path)), RUN)
        return [tuple(line[field] for field in fields) for line in read]

    return lines


def maps(ledger: Ledger, events: EventTarget | None, **how: Any) -> Maps:
    frames = FILM.frames()
    return misdeeds.maps(ledger, {span: chunk(FILM, frames, span) for span in CHUNKS}, events=events, **how)


def carry_out(maps: Maps, ledger: Ledger, worker: Any = None) -> None:
    list(run([work(ledger)], maps, worker or WorkerHere(maps), Deferrals(())))


def test_every_chunk_of_every_pool_is_written_down_and_then_the_publication(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    carry_out(maps(ledger, events), ledger)
    assert lines("event", "pool", "video", "chunk", "attempt") == [
        ("worker_began", "observe", None, None, None),
        ("worker_began", "enrich", None, None, None),
        *[("chunk_began", pool, "v", first, 1) for first, pool in ((0, "observe"), (0, "enrich"))],
        ("chunk_began", "enrich", "v", 2, 1),
        ("publish_began", None, "v", None, None),
    ]


def test_a_failure_of_a_chunk_has_its_stage_and_kind(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    carry_out(maps(ledger, events, committing={("v", 2): misdeeds.rot}), ledger)
    failed = [line for line in lines("event", "level", "pool", "stage", "chunk", "kind", "message")]
    assert [line[1:] for line in failed if line[0] == "chunk_failed"] == [
        ("warning", "enrich", "commit", 2, "DataError", "no picture")
    ]


def test_a_request_that_is_repeated_is_written_down_with_the_chunk_that_waits_for_it(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    made = maps(ledger, events, observing={("v", 0): misdeeds.stumble}, committing={("v", 2): misdeeds.stumble})
    carry_out(made, ledger)
    fields = ("event", "pool", "stage", "chunk", "kind", "message")
    assert [line[1:] for line in lines(*fields) if line[0] == "storage_retried"] == [
        ("observe", "observe", 0, "PassingError", "s3://bucket/…: SlowDown"),
        ("enrich", "commit", 2, "PassingError", "s3://bucket/…: SlowDown"),
    ]


def test_a_reason_to_decode_on_the_cpu_is_written_down_once_with_the_chunk(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    decoder.say_once.cache_clear()
    refuse = partial(decoder.say_once, "it is odd")
    carry_out(maps(ledger, events, observing={("v", 0): refuse, ("v", 2): refuse}), ledger)
    fields = ("event", "level", "pool", "chunk", "message")
    refused = [line[1:] for line in lines(*fields) if line[0] == "decoded_on_cpu"]
    assert refused == [("warning", "observe", 0, "it is odd")]


def test_the_next_worker_writes_down_the_death_of_the_last_one(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    deaths = [misdeeds.vanish]
    carry_out(maps(ledger, events, committing={("v", 2): lambda: deaths.pop()() if deaths else None}), ledger)
    died = [line[1:] for line in lines("event", "pool", "chunk", "attempt", "kind") if line[0] == "worker_died"]
    assert died == [("enrich", 2, 1, "WorkerDied")]
    assert ("chunk_began", 2, 2) in lines("event", "chunk", "attempt")


def test_a_worker_in_a_process_of_its_own_loses_no_line_when_it_is_ended(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    made = maps(ledger, events)
    worker = WorkerProcess(made)
    try:
        carry_out(made, ledger, worker)
    finally:
        worker.close()
    assert [event for (event,) in lines("event")][-1] == "publish_began"
    assert len({line["node"] for line in event_log.read_run(ledger.store, RUN)}) == 1


def test_a_worker_that_hangs_says_so_before_it_ends_itself(
    ledger: Ledger, events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    made = maps(ledger, events, observing={("v", 0): misdeeds.hang}, deadline_s=0.2, max_attempts=1)
    worker = WorkerProcess(made)
    try:
        carry_out(made, ledger, worker)
    finally:
        worker.close()
    told = lines("event", "chunk", "kind", "level")
    assert ("worker_ended", 0, "Deadline", "error") in told
    assert ("worker_died", 0, "WorkerDied", "warning") in told


def test_lines_of_a_worker_reach_the_stderr_of_the_run(
    ledger: Ledger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = maps(ledger, EventTarget(str(tmp_path), RUN, to_stderr=True))
    worker = WorkerProcess(made)
    try:
        carry_out(made, ledger, worker)
    finally:
        worker.close()
    shown = capfd.readouterr().err.splitlines()
    assert len(shown) == 6
    assert all(line.startswith('{"ts": ') for line in shown)


def test_without_a_journal_nothing_is_written(ledger: Ledger, tmp_path: Path) -> None:
    carry_out(maps(ledger, None), ledger)
    journal.note("nobody listens")
    assert not (tmp_path / "_events").exists()


def test_each_thread_names_its_work_and_none_stays_behind(
    events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    journal.open_journal(events, "here")
    first, second = journal.working_on(video="a"), journal.working_on(video="b")
    steps = [first.__enter__, second.__enter__, first.__exit__, second.__exit__]
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread, step in zip((one, other, one, other), steps, strict=True):
            thread.submit(step, *([None] * 3 if "exit" in step.__name__ else [])).result()
            for name, noting in (("one", one), ("other", other)):
                noting.submit(journal.note, name).result()
            journal.note("reader")
    assert lines("event", "video") == [
        *[("one", "a"), ("other", "a"), ("reader", "a")],
        *[("one", "a"), ("other", "b"), ("reader", "b")],
        *[("one", "b"), ("other", "b"), ("reader", "b")],
        *[("one", None), ("other", None), ("reader", None)],
    ]


def test_work_that_never_ended_is_not_named_in_the_next_run(
    events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    journal.open_journal(EventTarget(events.uri, "20260101T000000-aaaa"), "here")
    left_behind = journal.working_on(video="a")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(left_behind.__enter__).result()
    journal.open_journal(events, "here")
    journal.note("next")
    assert lines("event", "video") == [("next", None)]


def test_the_work_is_named_only_while_it_is_done(
    events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    journal.open_journal(events, "here")
    with journal.working_on(video="v", chunk=1):
        with journal.working_on(stage="observe"):
            journal.note("inner")
        journal.note("outer")
    journal.note("after")
    assert lines("event", "video", "chunk", "stage") == [
        ("inner", "v", 1, "observe"),
        ("outer", "v", 1, None),
        ("after", None, None, None),
    ]


def test_a_thread_that_decodes_ahead_names_the_span_for_which_it_reads(
    events: EventTarget, lines: Callable[..., list[tuple[Any, ...]]]
) -> None:
    journal.open_journal(events, "here")

    def read() -> Iterator[int]:
        journal.note("read")
        yield 1

    with ThreadPoolExecutor(1) as another, journal.working_on(video="a"):
        items = ahead(read(), 1)
        another.submit(journal.working_on(video="b").__enter__).result()
        next(items)
    assert lines("event", "video") == [("read", "a")]
