"""Ray on machines that are busy, small, shared or restricted. Only the last test starts Ray."""

import errno
import logging
import os
import resource
import signal
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import floor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import ray
import ray._private.auto_init_hook
import ray._private.worker
import ray.exceptions

from pipeline import malloc
from pipeline.errors import MachineError, UserError
from pipeline.flow import cluster
from pipeline.flow.machine import Machine, this_machine
from pipeline.flow.stage import Resources
from tests.builders import configured
from tests.patience import has_ended

CONFIG = configured()
TIMED_OUT = Exception(
    "The current node timed out during startup. This could happen because\n some of the raylet failed"
)
MB = 1 << 20
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_MODE",
        "RAY_BACKEND_LOG_LEVEL",
        "RAY_task_oom_retries",
        malloc.VARIABLE,
    ):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that takes the error of each ray.init, or None for success. It returns the options of the
    calls so far."""

    def failing_with(*errors: BaseException | None) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def init(**options: Any) -> None:
            calls.append(options)
            if error := errors[min(len(calls), len(errors)) - 1]:
                raise error

        monkeypatch.setattr(cluster.ray, "init", init)
        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
        monkeypatch.setattr(cluster, "_clear_half_started", lambda: calls.append({"cleared": True}))
        return calls

    return failing_with


def test_a_polite_kill_while_ray_starts_is_an_interruption(inits: Callable[..., list[dict[str, Any]]]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    inits(SystemExit(signal.SIGTERM))  # as Ray's own handler ends the process
    with pytest.raises(KeyboardInterrupt):
        cluster.start_ray(CONFIG)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_ray_that_comes_up_too_slowly_is_cleared_away_and_started_again(inits: Callable[..., Any]) -> None:
    calls, said = inits(TIMED_OUT, TIMED_OUT, None), []
    cluster.start_ray(CONFIG, said.append)
    assert ["cleared" in call for call in calls] == [False, True, False]
    (line,) = said
    assert line == "Ray did not start (The current node timed out during startup); trying again"


def test_a_ray_that_never_comes_up_is_two_lines_with_the_remedy(inits: Callable[..., Any]) -> None:
    calls = inits(TIMED_OUT)
    with pytest.raises(UserError) as raised:
        cluster.start_ray(CONFIG)
    assert sum("cleared" in call for call in calls) == cluster.STARTS == len(calls) / 2
    first, second = str(raised.value).splitlines()
    assert "timed out during startup" in first
    assert second.startswith("close other programs and run the same command again, or add --set run.engine=local; ")


def test_what_another_try_cannot_mend_is_not_tried_again(inits: Callable[..., Any]) -> None:
    calls = inits(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(UserError, match="No space left on device"):
        cluster.start_ray(CONFIG)
    assert len(calls) == 2


def test_without_an_address_no_cluster_of_others_is_joined_and_nothing_is_written_to_home(
    inits: Callable[..., Any],
) -> None:
    calls = inits(None)
    cluster.start_ray(CONFIG)
    (call,) = calls
    assert call["address"] == "local"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert Path(call["_temp_dir"]).stat().st_uid == os.getuid()


@pytest.mark.parametrize(("settings", "num_cpus"), [((), 23), (("run.enrich.workers=0",), 21)])
def test_ray_gets_as_many_cpus_as_the_chosen_pools_and_a_reduce_want(
    inits: Callable[..., Any], settings: Sequence[str], num_cpus: int
) -> None:
    calls = inits(None)
    cluster.start_ray(configured("run.observe={workers: 20, cpus: 1}", "run.enrich={workers: 4, cpus: 0.5}", *settings))
    assert calls[0]["num_cpus"] == max(num_cpus, floor(this_machine().cpus))


@pytest.mark.parametrize(("settings", "cpus"), [((), 2), (("run.address=10.0.0.1:6379",), 8)])
def test_a_run_says_for_which_machine_its_workers_are_chosen(
    monkeypatch: pytest.MonkeyPatch, settings: Sequence[str], cpus: int
) -> None:
    """Not for the CPUs in the books of a Ray that was started here, which must hold all pools and a reduce."""
    monkeypatch.setattr(cluster, "this_machine", lambda: Machine(2, 0, 8e9))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "memory": 8e9})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    resources = Resources(num_cpus=1, num_gpus=0, min_workers=3, max_workers=3)
    pool, said = SimpleNamespace(name="observe", resources=resources), []
    cluster.check_room(configured(*settings), cast(Any, [pool]), said.append)
    (words,) = said
    assert words.startswith(f"workers for {cpus} CPUs: observe 3")


def test_several_spans_in_a_worker_make_the_object_store_larger(
    inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = inits(None)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda _: SimpleNamespace(free=8 << 30))
    for spans in (1, 4):
        cluster.start_ray(configured(f"run.observe.spans={spans}"))
    assert [call["object_store_memory"] for call in calls] == [1 << 30, 2 << 30]


def test_workers_get_few_arenas_unless_the_user_has_set_a_limit(
    inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = inits(None)
    cluster.start_ray(configured("run.address=auto"))
    assert calls[0]["runtime_env"] == {"env_vars": {malloc.VARIABLE: "2"}}
    cluster.start_ray(CONFIG)
    assert os.environ[malloc.VARIABLE] == "2"
    monkeypatch.setenv(malloc.VARIABLE, "7")
    cluster.start_ray(CONFIG)
    assert os.environ[malloc.VARIABLE] == "7"
    cluster.start_ray(configured("run.address=auto"))
    assert "runtime_env" not in calls[-1]


def test_a_polite_kill_does_what_it_did_before_ray_started(
    inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(*_: object) -> None:
        pass

    inits(None)
    started = cluster.ray.init

    def init(**options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        started(**options)

    monkeypatch.setattr(cluster.ray, "init", init)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        cluster.start_ray(CONFIG)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_leftover_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1.*unset RAY_ADDRESS"):
        cluster.start_ray(CONFIG)
    with pytest.raises(UserError, match="check --address"):
        cluster.start_ray(configured("run.address=127.0.0.1:1"))


def test_a_head_that_still_comes_up_is_tried_again(inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_WAIT_S", 0)
    late = ConnectionError("Could not read the address of the raylet.")
    said: list[str] = []
    assert len(inits(late, late, None)) == 0
    cluster.start_ray(configured("run.address=auto"), said.append)
    assert len(said) == 2
    inits(late)
    with pytest.raises(UserError, match="cannot use the Ray cluster at auto: Could not read the address"):
        cluster.start_ray(configured("run.address=auto"))


def test_a_cluster_of_another_version_is_one_line(inits: Callable[..., Any]) -> None:
    inits(RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\n"))
    with pytest.raises(UserError) as raised:
        cluster.start_ray(configured("run.address=auto"))
    assert "Version mismatch: The cluster was started with: Ray: 2.9.0 Python: 3.9.1" in str(raised.value)


def test_a_folder_that_is_somebody_elses_too_long_or_missing_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cluster._folder()
    assert folder == f"/tmp/ray-{os.getuid()}"
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path / ("long" * 10)))
    assert cluster._folder() == folder
    monkeypatch.setenv("RAY_TMPDIR", "/nowhere/at/all")
    assert cluster._folder() == folder


def test_a_name_that_somebody_else_has_taken_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster, "LONGEST_FOLDER", 1000)
    assert cluster._folder() == f"{tmp_path}/ray-{os.getuid()}"
    (tmp_path / "ray-4242").mkdir()
    monkeypatch.setattr(cluster.os, "getuid", lambda: 4242)
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(cluster, "FALLBACKS", ())
    with pytest.raises(UserError, match=r": somebody else has taken the name there\); free space, or set TMPDIR"):
        cluster._folder()


def test_a_disk_without_room_for_logs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda _: Usage(MB, MB, 0))
    with pytest.raises(UserError, match=r"sockets and logs .*No space left.*; free space, or set TMPDIR"):
        cluster._folder()


@pytest.mark.parametrize(
    ("shared_mb", "disk_mb", "expected"),
    [
        (8000, 10, (cluster.OBJECT_STORE_BYTES, "/dev/shm")),
        (400, 10, (360 * MB, "/dev/shm")),
        (64, 8000, (cluster.OBJECT_STORE_BYTES, "/disk")),
        (None, 8000, (cluster.OBJECT_STORE_BYTES, "/disk")),
        (64, 400, (360 * MB, "/disk")),
        (64, 64, None),
    ],
)
def test_the_object_store_fits_where_it_lies(
    monkeypatch: pytest.MonkeyPatch, shared_mb: int | None, disk_mb: int, expected: tuple[int, str] | None
) -> None:
    def usage(path: str) -> Usage:
        if path == "/dev/shm" and shared_mb is None:
            raise FileNotFoundError(path)
        return Usage(0, 0, ((shared_mb or 0) if path == "/dev/shm" else disk_mb) * MB)

    monkeypatch.setattr(cluster.shutil, "disk_usage", usage)
    monkeypatch.setattr(cluster.os, "access", lambda *_: True)
    if expected is None:
        with pytest.raises(UserError, match="needs 300 MB, and neither /dev/shm nor /disk has them; free some"):
            cluster._object_store("/disk", cluster.OBJECT_STORE_BYTES)
    else:
        assert cluster._object_store("/disk", cluster.OBJECT_STORE_BYTES) == expected


def test_an_object_store_on_disk_is_told(inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (calls, said) = inits(None), []
    monkeypatch.setattr(cluster, "_object_store", lambda folder, most_bytes: (300 * MB, folder))
    cluster.start_ray(CONFIG, said.append)
    assert "/dev/shm has less than 300 MB" in said[0]
    assert calls[0]["_plasma_directory"] == calls[0]["_temp_dir"]


def test_too_few_file_handles_are_told_before_anything_starts(
    inits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = inits(None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 100))
    with pytest.raises(UserError, match=r"may open 100 files here, and Ray needs .*; raise the limit"):
        cluster.start_ray(CONFIG)
    assert calls == []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, resource.RLIM_INFINITY))
    cluster.start_ray(CONFIG)
    assert len(calls) == 1


@pytest.mark.parametrize(("dead", "expected"), [("", ["shutdown"]), ("log_monitor", ["shutdown"]), ("raylet", [])])
def test_a_ray_that_has_died_cannot_take_the_run_with_it(
    monkeypatch: pytest.MonkeyPatch, dead: str, expected: list[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray._private.worker, "_global_node", SimpleNamespace(dead_processes=lambda: [(dead, None)]))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    cluster.stop_ray()
    assert calls == expected


def test_no_call_starts_a_ray_of_its_own() -> None:
    assert ray._private.auto_init_hook.enable_auto_connect is False


def task_error(cause: Exception) -> Exception:
    """Return the exception that ray.get raises if a task has raised `cause`."""
    return ray.exceptions.RayTaskError("task", "Traceback …", cause).as_instanceof_cause()


FROM_RAY_DATA = "\nFailed to apply UDF transform after 1/1 attempts"


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (task_error(MachineError(f"/out: full; free some{FROM_RAY_DATA}")), MachineError, "/out: full; free some"),
        (task_error(UserError("two\nlines")), UserError, "two\nlines"),
        (task_error(task_error(UserError("nested"))), UserError, "nested"),
        (task_error(OSError(errno.ENOSPC, "x", "/tmp/a")), MachineError, "/tmp/a: No space left on device; free some"),
        (
            task_error(OSError(errno.EMFILE, "x")),
            MachineError,
            "Too many open files; raise the limit (`ulimit",
        ),
        (
            task_error(RuntimeError("CUDA error: out of memory")),
            MachineError,
            "the graphics card has too little memory (CUDA error: out of memory); end other processes",
        ),
        (task_error(MemoryError()), MachineError, "there is too little memory; take smaller batches"),
        (ray.exceptions.GetTimeoutError("x"), MachineError, "the workers have not loaded their models within 600 s"),
        (ray.exceptions.OutOfDiskError(), MachineError, "Ray's object store is full"),
        (ray.exceptions.RaySystemError("System error: Broken pipe"), MachineError, "Ray or its workers have died: Sys"),
        (task_error(ray.exceptions.WorkerCrashedError()), MachineError, "Ray or its workers have died: "),
    ],
)
def test_what_ray_says_of_the_machine_is_in_plain_words(raised: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as told, cluster.plain_errors():
        raise raised
    assert type(told.value) is kind
    assert str(told.value).startswith(words)
    assert FROM_RAY_DATA not in str(told.value)


@pytest.mark.parametrize("bug", [task_error(ZeroDivisionError()), KeyError("x"), task_error(FileNotFoundError(2, "x"))])
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    with pytest.raises(type(bug)) as raised, cluster.plain_errors():
        raise bug
    assert raised.value is bug


def processes_of_ray(kind: str = "") -> list[psutil.Process]:
    """Return the processes of Ray below this one, below which other tests may have left some of theirs."""
    home, processes = str(Path(ray.__file__).parent), []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            command = " ".join([process.name(), *process.cmdline()])
            if kind in command and (home in command or command.startswith("ray::")):
                processes.append(process)
    return processes


@pytest.mark.ray
def test_the_second_start_finds_nothing_of_the_first_and_home_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    get_node, seen, said = services.get_node, [], []

    def slow_at_first(*arguments: Any) -> Any:
        if not seen:
            seen.extend(processes_of_ray())
            raise TIMED_OUT
        return get_node(*arguments)

    monkeypatch.setattr(services, "get_node", slow_at_first)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    cluster.start_ray(CONFIG, said.append)
    try:
        assert [line for line in said if "trying again" in line]
        assert processes_of_ray("raylet")
        assert len(seen) > 1
        assert [process for process in seen if not has_ended(process)] == []
    finally:
        cluster.stop_ray()
    with pytest.raises(Exception, match=r"ray\.init"):
        ray.cluster_resources()
    assert not ray.is_initialized()
