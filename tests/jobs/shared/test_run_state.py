"""How a run goes, as its events tell it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import status as module
from jobs.shared.run_json import new_run_id
from jobs.shared.run_state import SILENT_S, RunState, read_state, state_of
from jobs.status import status
from pipeline.storage import event_log
from pipeline.storage.claims import Claim
from pipeline.storage.event_log import DRIVER, FIELDS, EventLog, EventTarget, Line
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish

BEGAN = datetime(2026, 11, 26, 1, 0, 0, tzinfo=UTC)
RUN = "20261126T010000-ab12"
COUNTS: dict[str, Any] = {
    "videos": 4,
    "videos_done": 1,
    "videos_quarantined": 0,
    "sources_deferred": 0,
    "chunks_done": 3,
}


def line(seconds: float, event: str, level: str = "info", **fields: Any) -> Line:
    ts = (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return dict.fromkeys(FIELDS) | {"ts": ts, "level": level, "event": event} | fields


def progress(seconds: float, frames_done: int) -> Line:
    return line(seconds, "run_progress", frames=10_000, frames_done=frames_done, **COUNTS)


def state(*lines: Line, at: float, claim: Claim | None = None) -> RunState:
    return state_of(RUN, lines, claim, BEGAN + timedelta(seconds=at))


def test_the_rate_is_that_of_the_last_minutes_and_gives_the_time_left() -> None:
    now = state(progress(10, 0), progress(1000, 100), progress(1200, 4100), at=1205)
    assert (now.status, now.seconds, now.frames_per_s) == ("running", 1205, 20.0)
    assert now.left_s == (10_000 - 4100) / 20
    assert str(now) == (
        f"run {RUN}: running for 20 min 05 s, 1 of 4 videos, 4,100 of about 10,000 frames, 20 frames/s, "
        "about 4 min 55 s left"
    )


def test_while_sources_are_still_listed_the_numbers_are_those_so_far() -> None:
    lines = [progress(1000, 100) | {"knows_all": False}, progress(1200, 4100) | {"knows_all": False}]
    said = str(state(*lines, at=1205))
    assert "1 of 4 videos so far" in said
    assert said.endswith("about 4 min 55 s left for these")
    assert "so far" not in str(state(*lines, progress(1300, 5000) | {"knows_all": True}, at=1305))


@pytest.mark.parametrize("lines", [(), (progress(10, 100),), (progress(10, 100), progress(20, 100))])
def test_without_progress_no_rate_is_invented(lines: tuple[Line, ...]) -> None:
    now = state(line(0, "run_began"), *lines, at=25)
    assert (now.frames_per_s, now.left_s) == (None, None)


def test_a_run_that_says_nothing_is_silent_and_its_time_stands_still() -> None:
    now = state(progress(10, 100), at=11 + SILENT_S)
    assert (now.status, now.seconds) == ("silent", 10)
    assert "silent for 1 min 31 s after 10 s, so it has probably died" in str(now)


def test_a_run_whose_process_has_ended_without_a_word_died_at_once() -> None:
    claim = Claim.of_this_process("process", RUN, 90, 1).renewed(ended=True)
    assert state(progress(10, 100), at=12, claim=claim).status == "died"
    other = Claim.of_this_process("process", "another", 90, 1).renewed(ended=True)
    assert state(progress(10, 100), at=12, claim=other).status == "running"


def test_a_run_from_which_another_has_taken_the_output_over_died() -> None:
    holder = Claim.of_this_process("process", "another", 90, 1)
    assert state(progress(10, 100), at=12, claim=holder).status == "died"


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("done", None, "done after 20 s"),
        ("interrupted", None, "interrupted after 20 s (run the same command again)"),
        ("failed", "MachineError: the disk is full\nmore", "failed after 20 s: MachineError: the disk is full"),
    ],
)
def test_a_run_that_has_ended_says_how(kind: str, message: str | None, told: str) -> None:
    now = state(progress(10, 100), line(20, "run_ended", kind=kind, message=message), at=9000)
    assert (now.status, now.seconds) == (kind, 20)
    assert str(now).startswith(f"run {RUN}: {told}, 1 of 4 videos")


def test_failures_are_counted_by_kind_and_the_last_one_comes_first() -> None:
    retried = [
        line(s, "storage_retried", "warning", kind="SlowDown", message=f"try {s}", stage="observe") for s in (1, 3)
    ]
    died = line(2, "worker_died", "warning", kind="WorkerDied", pool="enrich", message="memory")
    faults = state(line(0, "chunk_began"), retried[0], died, retried[1], at=4).faults
    assert [(fault.event, fault.stage, fault.kind, fault.count, fault.message) for fault in faults] == [
        ("storage_retried", "observe", "SlowDown", 2, "try 3"),
        ("worker_died", "enrich", "WorkerDied", 1, "memory"),
    ]


def test_of_several_runs_the_last_one_counts_and_of_its_files_the_newest(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert read_state(store, None) is None
    for run_id, event in (("20250101T000000-aaaa", "run_ended"), (RUN, "run_began")):
        log = EventLog(EventTarget(store.uri, run_id), DRIVER, "node", now=lambda: BEGAN)
        log.add(event, kind="done")
        log.flush()
    now = read_state(store, None, BEGAN)
    assert now is not None
    assert (now.run_id, now.status) == (RUN, "running")


def test_the_ids_of_runs_are_in_the_order_in_which_they_began() -> None:
    times = [BEGAN + timedelta(microseconds=number * 20) for number in range(0, 60_000, 7)]
    ids = [new_run_id(began) for began in times]
    assert ids == sorted(set(ids))
    assert {event_log.began_at(run_id) for run_id in ids} == {BEGAN + timedelta(seconds=second) for second in (0, 1)}


@pytest.fixture
def output(tmp_path: Path) -> str:
    publish(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    return str(tmp_path)


def log_of(output: str) -> Callable[..., None]:
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-ab12"
    log = EventLog(EventTarget(output, run_id), DRIVER, "node")

    def note(event: str, **fields: Any) -> None:
        log.add(event, **fields)
        log.flush()

    return note


@pytest.mark.parametrize("as_json", [False, True])
def test_following_shows_every_step_and_at_the_end_everything(
    output: str, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = log_of(output)
    note("run_progress", frames=10_000, frames_done=5, **COUNTS)
    steps = [
        lambda: note("run_progress", frames=10_000, frames_done=70, **COUNTS),
        lambda: note("run_ended", kind="interrupted"),
    ]
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: steps.pop(0)()))
    status(output, as_json=as_json, follow=True)
    lines = capsys.readouterr().out.splitlines()
    assert not steps
    if as_json:
        told = [module.json.loads(line) for line in lines]
        assert [one["run"]["status"] for one in told] == ["running", "running", "interrupted", "interrupted"]
        assert told[-1]["videos"]["done"] == 1
    else:
        assert "5 of about 10,000 frames" in lines[0]
        assert "70 of about 10,000 frames" in lines[1]
        assert "interrupted" in lines[2]
        assert "1 video done with 1 person" in lines[3]


def test_following_an_output_that_nobody_works_on_ends_at_once(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: pytest.fail("it waited")))
    status(output, as_json=False, follow=True)
    assert "1 video done" in capsys.readouterr().out


def test_what_fails_and_what_is_deferred_is_shown_with_its_reason(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index = module.OutputIndex.open(output)
    (uri,) = index.sources
    index.set_source(uri, status="pending", stage="observe", reason="deferred: the bucket is asleep")
    index.save_sources()
    log_of(output)("storage_retried", level="warning", kind="SlowDown", pool="observe", message="busy")
    status(output, as_json=False)
    shown = capsys.readouterr().out
    assert "storage retried  observe  SlowDown  1" in shown
    assert "the bucket is asleep" in shown
    status(output, as_json=True)
    facts = module.json.loads(capsys.readouterr().out)
    assert facts["deferred"] == [{"uri": uri, "stage": "observe", "reason": "the bucket is asleep"}]
    assert facts["videos"]["deferred"] == 1
    assert facts["run"]["faults"][0]["kind"] == "SlowDown"
