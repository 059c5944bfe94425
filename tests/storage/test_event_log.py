"""The events of a run: whole lines, no secrets, and no line is lost while the place is away."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PassingError
from pipeline.storage import event_log
from pipeline.storage.event_log import DRIVER, FIELDS, EventLog, EventTarget, clean, secrets_of
from pipeline.storage.store import Store

RUN = "20261126T010203-ab12"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def opened(output: Path, writer: str = DRIVER, **how: Any) -> EventLog:
    return EventLog(EventTarget(str(output), RUN, **how), writer, "node")


def events(output: Path) -> list[str]:
    return [line["event"] for line in event_log.read_run(Store(str(output)), RUN)]


def test_a_line_has_all_fields_and_what_else_it_is_given(tmp_path: Path) -> None:
    log = opened(tmp_path, job="nightly")
    log.add("chunk_done", video="v", chunk=3, frames=10)
    log.flush()
    (text,) = (tmp_path / "_events" / RUN / "driver.0000.jsonl").read_text().splitlines()
    line = json.loads(text)
    assert list(line)[: len(FIELDS)] == list(FIELDS)
    assert (line["run"], line["job"], line["node"], line["level"]) == (RUN, "nightly", "node", "info")
    assert (line["video"], line["chunk"], line["frames"], line["kind"]) == ("v", 3, 10, None)
    assert datetime.fromisoformat(line["ts"]).tzinfo is not None


def test_lines_are_written_once_and_in_files_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "FILE_BYTES", 1000)
    log = opened(tmp_path)
    for number in range(30):
        log.add(f"event-{number}")
        log.flush()
    log.flush()
    files = sorted((tmp_path / "_events" / RUN).iterdir())
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 1500
    assert [json.loads(line)["event"] for file in files for line in file.read_text().splitlines()] == [
        f"event-{number}" for number in range(30)
    ]
    (newest,) = event_log.newest_files(Store(str(tmp_path)), RUN)
    assert newest.endswith(files[-1].name)


def test_nothing_new_is_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    log.add("a")
    log.flush()
    monkeypatch.setattr(Store, "put", lambda *_: pytest.fail("it wrote"))
    log.flush()


def test_a_place_that_is_away_gets_the_lines_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise PassingError("asleep")

    log = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", away)
        log.add("a")
        log.flush()
    log.add("b")
    log.flush()
    assert events(tmp_path) == ["a", "b"]


def test_writers_have_files_of_their_own_and_a_reader_gets_their_lines_in_order_of_time(tmp_path: Path) -> None:
    seconds = iter(range(60))
    logs = [
        EventLog(EventTarget(str(tmp_path), RUN), name, "node", now=lambda: datetime(2026, 1, 1, second=next(seconds)))
        for name in (DRIVER, "worker")
    ]
    for number in range(4):
        logs[number % 2].add(f"event-{number}")
    for log in logs:
        log.flush()
    assert events(tmp_path) == [f"event-{number}" for number in range(4)]
    names = event_log.newest_files(Store(str(tmp_path)), RUN)
    assert [name.rpartition("/")[2] for name in names] == ["driver.0000.jsonl", "worker.0000.jsonl"]


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.add("a")
    log.flush()
    file = tmp_path / "_events" / RUN / "driver.0000.jsonl"
    file.write_text('{"ts": 1}\n{"event": "cut o' + "\n[]\n" + file.read_text())
    assert events(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/films/Ann Smith.mp4: SlowDown", "s3://bucket/… Smith.mp4: SlowDown"),
        ("s3://bucket/out: 503", "s3://bucket/…: 503"),
        ("https://user:pass@host/a?X-Amz-Signature=0123 is gone", "https://host/… is gone"),
        ("https://host/a.mp4#t=1, again", "https://host/…, again"),
        ("s3://bucket: no such bucket", "s3://bucket: no such bucket"),
        (f"the key is {SECRET}.", "the key is ***."),
        ("The key AKIAIOSFODNN7EXAMPLE is unknown", "The key *** is unknown"),
        ("codec://, 3 of 5", "codec://, 3 of 5"),
        ("caf\udce9", "caf%E9"),
    ],
)
def test_of_an_address_only_the_bucket_is_shown_and_of_a_secret_nothing(text: str, shown: str) -> None:
    assert clean(text, secrets_of({"AWS_SECRET_ACCESS_KEY": SECRET, "USE_TOKEN": "true"})) == shown


@pytest.mark.parametrize(
    ("uri", "shown"), [("s3://b/Ann Smith.mp4", "s3://b/… is broken"), ("/in/Ann Smith.mp4", "the source is broken")]
)
def test_a_line_does_not_name_the_source_at_work(tmp_path: Path, uri: str, shown: str) -> None:
    log = opened(tmp_path)
    log.add("chunk_failed", message=f"{uri} is broken", hidden=uri)
    log.flush()
    (line,) = event_log.read_run(Store(str(tmp_path)), RUN)
    assert line["message"] == shown
    assert "hidden" not in line


@pytest.mark.parametrize("to_stderr", [False, True])
def test_lines_go_to_stderr_if_they_are_wanted_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to_stderr: bool
) -> None:
    opened(tmp_path, to_stderr=to_stderr).add("a")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["a"] * to_stderr


def test_old_events_go_and_those_of_this_run_stay(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for run_id in ("20200101T000000-aaaa", "20200102T000000-bbbb", "20261126T000000-cccc", "no date"):
        store.put(f"_events/{run_id}/driver.0000.jsonl", b"")
    event_log.drop_old_runs(store, datetime(2026, 1, 1, tzinfo=UTC), spared="20200102T000000-bbbb")
    assert store.folders("_events") == ["20200102T000000-bbbb", "20261126T000000-cccc", "no date"]


def test_the_last_run_is_the_one_that_began_last(tmp_path: Path, put: Callable[[str], Store]) -> None:
    assert event_log.last_run(Store(str(tmp_path / "none"))) is None
    store = put(str(tmp_path))
    assert event_log.last_run(store) == "20261126T000000-cccc"


@pytest.fixture
def put() -> Callable[[str], Store]:
    def put(uri: str) -> Store:
        store = Store(uri)
        for run_id in ("20261126T000000-cccc", "20260101T000000-aaaa"):
            store.put(f"_events/{run_id}/driver.0000.jsonl", b"")
        return store

    return put
