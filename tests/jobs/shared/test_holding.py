"""A command holds the output that it writes to, and gives it back however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.relink import relink
from jobs.shared import holding as module
from jobs.shared.holding import holding
from pipeline.errors import LeaseError
from pipeline.storage import lease
from pipeline.storage.claims import SwappedFile, latest_claim
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish
from tests.commands import ROOT, rollcall_here

HOLDER = """
import sys, time
from jobs.shared.holding import holding
from pipeline.storage.store import Store
with holding(Store(sys.argv[1]), "process", "first") as store, store.writing("embeddings/v.parquet") as file:
    file.write(b"vectors")
    file.flush()
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def ended(place: Path) -> tuple[str, bool]:
    claim = latest_claim(Store(str(place)))
    assert claim is not None
    return claim.run_id, claim.ended


def start_holder(place: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, place], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def partials(place: Path) -> list[Path]:
    return list(place.rglob("*.partial"))


def test_an_output_is_given_back_however_the_block_ends(out: Path) -> None:
    def fail(error: BaseException) -> None:
        with holding(Store(str(out)), "process", type(error).__name__):
            raise error

    before = signal.getsignal(signal.SIGTERM)
    for error in (ValueError(), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            fail(error)
        assert ended(out) == (type(error).__name__, True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_output_that_is_refused_leaves_signals_as_they_were(out: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    held = lease.take(SwappedFile(Store(str(out))), "process", "first")
    with pytest.raises(LeaseError, match="run first"), holding(Store(str(out)), "process", "second"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    held.end()


def test_a_run_that_was_killed_on_this_machine_holds_nothing_and_its_partial_files_go(out: Path) -> None:
    with start_holder(out) as holder:
        with (
            pytest.raises(LeaseError, match=f"held by run first .*process {holder.pid}"),
            holding(Store(str(out)), "process", "second"),
        ):
            pass
        assert len(partials(out)) == 1
        holder.kill()
    with holding(Store(str(out)), "process", "second"):
        assert partials(out) == []


def test_a_run_that_is_told_to_stop_gives_the_output_back(out: Path) -> None:
    with start_holder(out) as holder:
        holder.send_signal(signal.SIGTERM)
    assert (ended(out), partials(out)) == (("first", True), [])


def test_a_run_ends_when_another_has_taken_over(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_S", 0.3)
    plain = Store(str(out))

    def wait_until_lost(change: Callable[[], None]) -> None:
        with holding(Store(str(out)), "process", "first"):
            for _ in range(600):  # a renewal that was under way may undo a change
                change()
                time.sleep(1)

    def take_over() -> None:
        other = claim | {"holder": "x", "run_id": "second"}
        plain.put("_lease/lease.json", json.dumps(other).encode())

    with holding(plain, "process", "before"):
        claim = json.loads(plain.read("_lease/lease.json"))
    with pytest.raises(LeaseError, match="its lease was removed"):
        wait_until_lost(lambda: plain.delete("_lease/lease.json"))
    with pytest.raises(LeaseError, match="run second"):
        wait_until_lost(take_over)
    assert ended(out) == ("second", False)


def test_a_run_after_a_silent_one_waits_for_the_last_writes_of_its_workers(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    store = Store(f"{bucket}/out")
    with holding(store, "process", "first"):
        claim = json.loads(store.read("_lease/lease.json"))
        silent = claim | {"process": None, "ttl_s": 0.2, "renewed_at": "2020-01-01T00:00:00+00:00"}
        store.put("_lease/lease.json", json.dumps(silent).encode())
        with holding(store, "process", "second"):
            pass
    told = "".join(capsys.readouterr())
    assert "silent since 2020-01-01 00:00:00 UTC" in told
    assert "the last run did not end" in told


def test_commands_that_write_are_refused_and_those_that_read_are_not(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "a.mp4"
    publish(Film(2.0, [Walker(0, 2, x=20, look=1)], cuts=[]), [1], str(out))
    source.write_bytes(b"")
    with holding(Store(str(out)), "process", "20260101T000000-aaaa"):
        refused = [
            rollcall_here("process", source, "--output", out),
            rollcall_here("relink", out, "--set", "person.min_faces=1"),
        ]
        told = json.loads(rollcall_here("status", out, "--json").stdout)["lease"]
        assert "held by run 20260101T000000-aaaa (process)" in rollcall_here("status", out).stdout
    for done in refused:
        assert done.returncode == 5
        assert f"rollcall: {out} is held by run 20260101T000000-aaaa (process) on " in done.stderr
        assert "--wait-lease SECONDS" in done.stderr
        assert "Traceback" not in done.stderr
    assert (told["run_id"], told["pid"], told["is_silent"]) == ("20260101T000000-aaaa", os.getpid(), False)
    relink(str(out), ["identity.wrong_joins=0.2"])
    assert json.loads((out / "run.json").read_text())["lease"] == "full"
    assert json.loads(rollcall_here("status", out, "--json").stdout)["lease"] is None
