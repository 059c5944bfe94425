"""One run at a time writes to an output, whatever its place can do and whatever the network loses."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import LeaseError, PassingError
from pipeline.processes import ProcessIdentity
from pipeline.storage import claims, lease, records
from pipeline.storage.claims import (
    Claim,
    NumberedFiles,
    Register,
    Strength,
    SwappedFile,
    latest_claim,
    probe,
    register_of,
)
from pipeline.storage.lease import Keeper, Lease, take
from pipeline.storage.store import Store
from tests.commands import ROOT
from tests.patience import eventually
from tests.s3_proxy import S3Proxy

STRENGTHS: tuple[Strength, ...] = ("full", "create-only", "advisory")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def row(video_id: str, num_persons: int = 1) -> dict[str, Any]:
    return records.quarantined_row(video_id, "/in/a.mp4", "c", "", "") | {"status": "done", "num_persons": num_persons}


def persons(store: Store, video_id: str) -> int | None:
    found = records.read_video(store, video_id)
    return None if found is None else found["num_persons"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SETTLE_S", 0.0)


@pytest.fixture(params=STRENGTHS)
def register(request: pytest.FixtureRequest, tmp_path: Path) -> Register:
    return register_of(Store(str(tmp_path)), request.param)


def hold(register: Register, run_id: str = "one", clock: Clock | None = None, **how: Any) -> Lease:
    clock = clock or Clock()
    return take(register, "process", run_id, clock=clock, sleep=clock.sleep, **how)


def disown(register: Register, **changes: Any) -> None:
    """Make the stored claim look as if a process of another machine had made it."""
    (name,) = (name for name in register.store.names("_lease"))
    content = json.loads(register.store.read(name))
    register.store.put(name, json.dumps(content | {"process": None} | changes).encode())


def test_the_second_run_is_refused_at_once_and_told_who_holds_the_output(register: Register) -> None:
    hold(register, "20260101T000000-aaaa")
    clock = Clock()
    with pytest.raises(LeaseError, match=r"is held by run 20260101T000000-aaaa \(process\) on .*, process \d+ since"):
        hold(register, "two", clock)
    assert clock.now == 0


def test_an_ended_lease_is_free_and_the_fence_grows(register: Register) -> None:
    first = hold(register)
    first.end()
    second = hold(register, "two")
    assert not second.was_silent
    assert [int(one.fence.note.split()[0]) for one in (first, second)] == [1, 2]
    with pytest.raises(LeaseError, match="is no longer held by this run: run two"):
        first.fence.confirm(at_once=True)
    with pytest.raises(LeaseError, match="two"):
        first.renew()
    second.fence.confirm()


def test_a_run_waits_for_the_end_of_another(register: Register) -> None:
    first, clock, said = hold(register), Clock(), []

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now > 100:
            first.end()
        else:
            first.renew()

    take(register, "process", "two", wait_s=300, clock=clock, sleep=sleep, say=said.append)
    assert 100 < clock.now < 105
    assert said == [said[0]]
    assert said[0].startswith("waiting for run one")
    with pytest.raises(LeaseError, match="held by run two"):
        hold(register, "three", clock, wait_s=30)
    assert 130 <= clock.now < 140


def test_a_silent_claim_is_taken_over_after_its_time_by_the_own_clock(register: Register) -> None:
    hold(register, ttl_s=50.0)
    disown(register, renewed_at="2020-01-01T00:00:00+00:00")
    clock = Clock()
    assert hold(register, "two", clock).was_silent
    assert 50 <= clock.now < 60


def test_a_holder_whose_clock_is_wrong_is_refused_once_it_renews(register: Register) -> None:
    hold(register)
    disown(register, renewed_at="2020-01-01T00:00:00+00:00")
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now == 30:
            disown(register, renewed_at="2020-01-01T00:00:30+00:00")

    with pytest.raises(LeaseError, match="held by run one"):
        take(register, "process", "two", clock=clock, sleep=sleep)
    assert 30 <= clock.now < 40


def test_a_holder_that_died_on_this_machine_is_known_to_be_dead(register: Register) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mine = ProcessIdentity.of_this_process()
        assert mine is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        other = ProcessIdentity(mine.boot, mine.namespace, process.pid, int(fields[19]))
        hold(register)
        disown(register, process=other.to_json())
        with pytest.raises(LeaseError):
            hold(register, "two")
        process.kill()
        process.wait()
    clock = Clock()
    assert hold(register, "two", clock).was_silent
    assert clock.now == 0


def test_a_process_is_not_taken_for_another_with_its_number() -> None:
    mine = ProcessIdentity.of_this_process()
    assert mine is not None
    assert not mine.has_ended()
    earlier = ProcessIdentity(mine.boot, mine.namespace, mine.pid, mine.started - 1)
    elsewhere = ProcessIdentity("another boot", mine.namespace, 2**22 + 1, 1)
    in_a_container = ProcessIdentity(mine.boot, "pid:[1]", 2**22 + 1, 1)
    assert [one.has_ended() for one in (earlier, elsewhere, in_a_container)] == [True, False, False]


def test_a_process_that_nobody_has_reaped_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    mine = ProcessIdentity.of_this_process()
    assert mine is not None
    started = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ProcessIdentity(mine.boot, mine.namespace, process.pid, started).has_ended()
    process.wait()


def test_a_lease_that_is_no_json_is_told_with_the_remedy(tmp_path: Path) -> None:
    register = register_of(Store(str(tmp_path)), "full")
    register.store.put("_lease/lease.json", b"{")
    with pytest.raises(Exception, match=r"lease.json is no lease; remove it if no run is writing there"):
        hold(register)


def test_whoever_wants_to_know_sees_the_latest_claim(register: Register) -> None:
    assert latest_claim(register.store) is None
    held = hold(register)
    found = latest_claim(register.store)
    assert found is not None
    assert (found.run_id, found.ended) == ("one", False)
    held.end()
    assert [claim.ended for claim in [latest_claim(register.store)] if claim] == [True]


def test_old_claims_do_not_pile_up(register: Register) -> None:
    for number in range(6):
        hold(register, f"{number}").end()
    assert len(register.store.names("_lease")) <= 2


@pytest.mark.parametrize("strength", STRENGTHS[1:])
def test_of_claims_that_are_made_at_once_one_counts(tmp_path: Path, strength: Strength) -> None:
    register = register_of(Store(str(tmp_path)), strength)
    hold(register, "0").end()
    stored = register.read()
    late = [Claim.of_this_process("process", run_id, 90.0, stored.fence + 1) for run_id in ("a", "b")]
    taken = [claim for claim in late if register.claim(stored, claim) is not None]
    found = register.read().claim
    assert found in taken
    # Without conditions, the first may have been sure before the second came. It learns the truth by its next look.
    assert [claim for claim in taken if register.renew("", claim) is not None] == [found]


@pytest.mark.parametrize("strength", STRENGTHS[1:])
def test_a_claim_that_comes_after_those_of_three_others_does_not_count(tmp_path: Path, strength: Strength) -> None:
    register = register_of(Store(str(tmp_path)), strength)
    stored = register.read()
    for number in range(3):
        hold(register, f"{number}").end()
    assert register.claim(stored, Claim.of_this_process("process", "late", 90.0, stored.fence + 1)) is None
    found = register.read().claim
    assert found is not None
    assert found.run_id == "2"


# --- guarded stores --------------------------------------------------------------------------------------------------


def test_no_change_is_made_under_a_lost_lease(register: Register) -> None:
    first = hold(register)
    store = Store(register.store.uri, first.fence)
    store.put("a", b"1")
    first.end()
    hold(register, "two")
    changes: list[Callable[[], object]] = [
        lambda: store.put("a", b"2"),
        lambda: store.create("b", b"2"),
        lambda: store.move("a", "b"),
        lambda: store.delete("a"),
        lambda: store.delete_tree("a"),
        lambda: records.hide_video(store, "v"),
        lambda: pickle.loads(pickle.dumps(store)).put("a", b"2"),
    ]
    for change in changes:
        with pytest.raises(LeaseError, match="run two"):
            change()
    assert (store.read("a"), store.exists("b")) == (b"1", False)


def test_a_hidden_row_is_shown_by_its_own_holder_only(tmp_path: Path) -> None:
    register, clock = register_of(Store(str(tmp_path)), "full"), Clock()
    first = hold(register)
    old = Store(str(tmp_path), first.fence)
    records.hide_video(old, "v")
    first.end()
    new = Store(str(tmp_path), hold(register, "two", clock).fence)
    first.fence.confirm = lambda **_: None  # type: ignore[method-assign] - it looked just before
    records.hide_video(new, "v")
    with pytest.raises(LeaseError, match=r"videos/v.parquet was changed by another run"):
        records.write_video(old, row("v", 1))
    records.write_video(new, row("v", 2))
    with pytest.raises(LeaseError, match=r"videos/v.parquet was changed by another run"):
        records.write_video(old, row("v", 1))
    assert persons(Store(str(tmp_path)), "v") == 2


def test_a_row_has_the_same_bytes_with_and_without_a_lease(tmp_path: Path) -> None:
    plain = Store(str(tmp_path / "plain"))
    guarded = Store(str(tmp_path / "held"), hold(register_of(Store(str(tmp_path / "held")), "full")).fence)
    for store in (plain, guarded):
        records.hide_video(store, "v")
        records.write_video(store, row("v"))
        records.write_video(store, row("v"))  # a first try could not report it
    assert plain.read("videos/v.parquet") == guarded.read("videos/v.parquet")
    records.hide_video(guarded, "v")
    assert persons(guarded, "v") is None
    assert pq.read_table(tmp_path / "held" / "videos").num_rows == 0


def test_a_keeper_renews_and_tells_of_the_loss(tmp_path: Path) -> None:
    register = register_of(Store(str(tmp_path)), "full")
    held = hold(register, ttl_s=0.3)
    is_lost = threading.Event()
    keeper = Keeper(held, is_lost.set, lambda _: None)
    keeper.start()

    def lose() -> bool:
        register.store.delete("_lease/lease.json")  # a renewal that is under way may write it again
        return is_lost.is_set()

    eventually(lambda: (claim := register.read().claim) and claim.num_renewals >= 2)
    assert not is_lost.is_set()
    eventually(lose)
    assert "its lease was removed" in str(keeper.loss)
    keeper.stop()


# --- kinds of stores -------------------------------------------------------------------------------------------------


def test_a_folder_can_do_everything_and_memory_can_create(tmp_path: Path) -> None:
    assert probe(Store(str(tmp_path))) == "full"
    assert probe(Store(f"memory://{uuid.uuid4().hex}")) == "create-only"
    assert Store(str(tmp_path)).names("", hidden=True) == ["_lease/.lock"]


@pytest.mark.parametrize(
    ("conditions", "strength"),
    [("kept", "full"), ("create-only", "create-only"), ("ignored", "advisory"), ("refused", "advisory")],
)
def test_the_strength_of_an_object_store_is_found_by_trying(
    s3_proxy: S3Proxy, conditions: Any, strength: Strength
) -> None:
    s3_proxy.conditions = conditions
    store = Store(f"{s3_proxy.bucket}/out")
    assert probe(store) == strength
    register = register_of(store, strength)
    first = hold(register)
    first.renew()
    with pytest.raises(LeaseError, match="held by run one"):
        hold(register, "two")
    guarded = Store(store.uri, first.fence)
    records.hide_video(guarded, "v")
    records.write_video(guarded, row("v"))
    assert persons(store, "v") == 1
    first.end()
    hold(register, "two")
    with pytest.raises(LeaseError, match="run two"):
        records.hide_video(guarded, "v")


def test_answers_that_get_lost_change_nothing(s3_proxy: S3Proxy) -> None:
    is_second: dict[str, bool] = {}

    def lose_every_first(request: Any) -> str | None:
        if request.verb != "PUT":
            return None
        is_second[request.key] = not is_second.get(request.key, True)
        return None if is_second[request.key] else "lost"

    s3_proxy.rule = lose_every_first
    store = Store(f"{s3_proxy.bucket}/out")
    assert probe(store) == "full"
    held = hold(SwappedFile(store))
    held.renew()
    guarded = Store(store.uri, held.fence)
    records.hide_video(guarded, "v")
    records.write_video(guarded, row("v"))
    held.end()
    assert s3_proxy.faults["lost"] >= 5
    assert (persons(store, "v"), hold(SwappedFile(store), "two").was_silent) == (1, False)


def test_a_file_system_without_links_and_locks_is_served_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)
    assert probe(Store(str(tmp_path / "a"))) == "full"
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert probe(Store(str(tmp_path / "b"))) == "advisory"
    monkeypatch.undo()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert probe(Store(str(tmp_path / "c"))) == "create-only"


def test_partial_files_of_killed_runs_are_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("embeddings/v.parquet", b"kept")
    left = ["embeddings/.0badcafe.partial", "_work/v/observed-k/.1.partial", ".2.partial", "export/mot/.3.partial"]
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"vectors")
    assert store.sweep({"export"}) == 3
    assert [path.name for path in sorted(tmp_path.rglob("*")) if path.is_file()] == ["v.parquet", ".3.partial"]
    assert Store("memory://bucket").sweep() == 0


def test_a_killed_upload_leaves_no_temporary_file(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom pipeline.storage.store import Store\n"
        "with Store('memory://bucket').writing('embeddings/v.parquet') as file:\n"
        "    file.write(b'vectors'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


# --- a holder that sleeps --------------------------------------------------------------------------------------------

SLEEPER = """
import signal, sys, threading
from pipeline.errors import LeaseError
from pipeline.storage import records
from pipeline.storage.claims import SwappedFile
from pipeline.storage.lease import Keeper, take
from pipeline.storage.store import Store
from tests.storage.test_lease import row
plain = Store(sys.argv[1])
held = take(SwappedFile(plain), "process", "sleeper", ttl_s=1.0)
store = Store(plain.uri, held.fence)
is_tired, is_awake = threading.Event(), threading.Event()

def sleep():  # nobody is at work then, who would keep the lock of the folder
    if is_tired.is_set() and not is_awake.is_set():
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        is_awake.set()

Keeper(held, lambda: None, print, sleep).start()
try:
    records.hide_video(store, "v")
    for _ in range(100):
        records.hide_video(store, "w")
        records.write_video(store, row("w", 1))
        store.put("persons/w.parquet", b"old")
        is_tired.set()
        is_awake.wait()
except LeaseError as error:
    print(error)
    sys.exit(5)
"""


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/out"


def test_rows_of_a_holder_that_slept_past_its_time_are_refused(place: str) -> None:
    store = Store(place)
    command = [sys.executable, "-c", SLEEPER, place]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sleeper:
        try:
            assert sleeper.stdout is not None
            asleep = os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert asleep is not None
            assert asleep.si_code == os.CLD_STOPPED
            assert store.read("persons/w.parquet") == b"old"
            held = hold(SwappedFile(store), "second", wait_s=30)
            assert held.was_silent
            guarded = Store(place, held.fence)
            for video_id in ("v", "w"):
                records.hide_video(guarded, video_id)
                records.write_video(guarded, row(video_id, 2))
            guarded.put("persons/w.parquet", b"new")
            sleeper.send_signal(signal.SIGCONT)
            printed = sleeper.stdout.read()
        finally:
            sleeper.kill()
    assert (sleeper.returncode, "run second (process) on" in printed) == (5, True)
    assert [persons(store, video_id) for video_id in ("v", "w")] == [2, 2]
    if store.is_local:  # elsewhere a look at the claim counts for some seconds, which a successor waits for
        assert store.read("persons/w.parquet") == b"new"


# --- a model of two runs ---------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The run ends without a word."""


class World:
    """Runs that take turns. A turn lasts until the next request to the store."""

    def __init__(self) -> None:
        self.uri = f"memory://{uuid.uuid4().hex}"
        self.now = 0.0
        self.turn = threading.local()
        self.holders: dict[int, set[str]] = {}
        self.rows: list[tuple[int, str]] = []


class Actor(threading.Thread):
    """One run after the other on one machine."""

    def __init__(self, world: World, name: str, strength: Strength, plan: list[str]) -> None:
        super().__init__(name=name, daemon=True)
        self.world, self.strength, self.plan = world, strength, plan
        self.may_go, self.has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self.fate, self.is_over = "", False
        self.failure: BaseException | None = None

    def pause(self) -> None:
        """Wait for the next turn."""
        self.has_paused.release()
        self.may_go.acquire()
        if self.fate == "crash":
            raise Crash

    def go(self, fate: str) -> None:
        """Take a turn."""
        self.fate = fate
        self.may_go.release()
        self.has_paused.acquire()

    def sleep(self, seconds: float) -> None:
        self.world.now += seconds
        self.pause()

    def run(self) -> None:
        self.may_go.acquire()
        try:
            for number, what in enumerate(self.plan):
                try:
                    self._carry_out(f"{self.name}{number}", what)
                except (Crash, LeaseError, PassingError):
                    continue
        except BaseException as error:
            self.failure = error
        self.is_over = True
        self.has_paused.release()

    def _carry_out(self, run_id: str, what: str) -> None:
        store = ModelStore(self)
        register: Register = (
            SwappedFile(store) if self.strength == "full" else NumberedFiles(store, "create-only", self.sleep)
        )
        held = take(register, "process", run_id, wait_s=150, clock=lambda: self.world.now, sleep=self.sleep)
        fence = int(held.fence.note.split()[0])
        self.world.holders.setdefault(fence, set()).add(run_id)
        guarded = ModelStore(self, held.fence, fence)
        for step in what:
            if step == "r":
                held.renew()
            else:
                records.hide_video(guarded, step)
                guarded.put(f"persons/{step}.parquet", run_id.encode())
                records.write_video(guarded, row(step, fence))
        held.end()


class ModelStore(Store):
    """A store in memory that compares and swaps. Before each request other runs may go on, and answers get lost."""

    def __init__(self, actor: Actor, guard: Any = None, fence: int = 0) -> None:
        super().__init__(actor.world.uri, guard)
        self._actor, self._fence = actor, fence

    def _reach(self, action: Callable[[], Any]) -> Any:
        self._actor.pause()
        if self._actor.fate == "drop":
            raise PassingError("dropped")
        result = action()
        if self._actor.fate == "lose":
            raise PassingError("lost")
        return result

    @property
    def _conditional(self) -> "SwappingMemory":
        return SwappingMemory(self._fs, lambda path: self._actor.world.rows.append((self._fence, path)))


class SwappingMemory:
    def __init__(self, fs: Any, note: Callable[[str], None]) -> None:
        self._fs, self._note = fs, note

    def create(self, path: str, content: bytes) -> str | None:
        return None if self._fs.exists(path) else self._put(path, content)

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        return self._put(path, content) if self._fs.exists(path) and self.read(path)[1] == etag else None

    def read(self, path: str) -> tuple[bytes, str]:
        return self._fs.cat_file(path), self._fs.modified(path).isoformat()

    def _put(self, path: str, content: bytes) -> str:
        self._fs.pipe_file(path, content)
        if "/videos/" in path:
            self._note(path)
        return self.read(path)[1]


FATES = st.sampled_from(["", "", "", "", "", "lose", "drop", "crash", "late"])


@settings(max_examples=60)
@given(
    strength=st.sampled_from(("full", "create-only")),
    plans=st.lists(st.lists(st.text("rvw", max_size=3), min_size=1, max_size=2), min_size=2, max_size=3),
    turns=st.lists(st.tuples(st.integers(0, 2), FATES), max_size=120),
)
def test_no_two_runs_commit_under_one_fence_and_no_row_of_an_older_one_comes_later(
    strength: Strength, plans: list[list[str]], turns: list[tuple[int, str]]
) -> None:
    world = World()
    actors = [Actor(world, "abc"[number], strength, plan) for number, plan in enumerate(plans)]
    for actor in actors:
        actor.start()
    for number, fate in turns:
        actor = actors[number % len(actors)]
        if fate == "late":
            world.now += lease.TTL_S + 1
        if not actor.is_over:
            actor.go("" if fate == "late" else fate)
    while waiting := [actor for actor in actors if not actor.is_over]:
        for actor in waiting:
            actor.go("")
    assert [actor.failure for actor in actors if actor.failure] == []
    assert {fence: runs for fence, runs in world.holders.items() if len(runs) > 1} == {}
    by_video = {path: [fence for fence, other in world.rows if other == path] for _, path in world.rows}
    assert by_video == {path: sorted(fences) for path, fences in by_video.items()}
