"""Start Ray on this machine or connect to a cluster, check its resources, and stop it.

Every cause that keeps a machine from running Ray becomes an error of one or two lines that names the remedy.
"""

import errno
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
import ray._private.auto_init_hook
import ray._private.worker
import ray.data  # the import sets up Ray Data's logger, so it comes before start_ray silences that logger
import ray.exceptions
from ray.data._internal.execution.backpressure_policy import DownstreamCapacityBackpressurePolicy
from ray.data._internal.execution.operators import map_operator

from pipeline import malloc
from pipeline.config import Config, cluster_address
from pipeline.errors import FULL, LeaseError, MachineError, PassingError, UserError, lack_of
from pipeline.flow.machine import Machine, this_machine
from pipeline.flow.pool_resources import in_words, resources_of
from pipeline.flow.stage import PoolOfStages
from pipeline.models.gpu import card

STARTS = 3
OBJECT_STORE_BYTES = 1 << 30
LARGE_OBJECT_STORE_BYTES = 2 << 30
"""Bytes, where workers have several spans and so more rows are on their way."""
LEAST_OBJECT_STORE_BYTES = 300 << 20
"""Bytes. Rows between two pools take 256 MB."""
LEAST_FREE_BYTES = 20 << 20
"""Bytes for the logs of a run."""
FILES, FILES_PER_CPU = 100, 8
"""Files that a process must be able to open. Ray's own processes open about 60 files each. Ray's node process opens
3 more for each worker."""
FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")
LONGEST_FOLDER = 40
"""Bytes of a folder's path. Ray adds 65, and Linux refuses a socket whose path has more than 107."""
CONNECT_S = 10
CONNECT_WAIT_S = 5.0
STOP_S = 10
VITAL = frozenset({"raylet", "gcs_server"})
"""Processes of Ray that this one cannot leave in peace when they have died."""
SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "ignore_reinit_error": True}
WAIT_FOR_ACTORS_S = 600
LONGEST_CAUSE = 200
ADDED_BY_RAY_DATA = "\nFailed to apply UDF"
FEWER = "close other programs or set fewer run.*.workers, and run the same command again: what is finished is kept"
RAYS_WORDS = (
    (
        (ray.exceptions.GetTimeoutError,),
        f"the workers have not loaded their models within {WAIT_FOR_ACTORS_S} s; {FEWER}",
    ),
    (
        (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError),
        f"Ray's object store is full, and so is the disk behind it; {FULL}",
    ),
    (
        (
            ray.exceptions.NodeDiedError,
            ray.exceptions.LocalRayletDiedError,
            ray.exceptions.RaySystemError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.RayActorError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
        ),
        f"Ray or its workers have died: {{}}; {FEWER}",
    ),
)
"""Messages for the errors that Ray itself raises, by their classes."""
MAY_PASS = (ConnectionError, TimeoutError, ray.exceptions.GetTimeoutError, ray.exceptions.RaySystemError)
"""What connecting to a cluster raises if its head is busy or still comes up."""
# A call to Ray after the end of a run would start another Ray. Ray reads the variable for this when it is imported, so
# a variable set here would come too late.
ray._private.auto_init_hook.enable_auto_connect = False
# Ray Data keeps the statistics of every block until the end of the run: 2.5 kB for a chunk, which nothing reads.
map_operator.to_stats = lambda _: []  # pyright: ignore[reportPrivateImportUsage]
# Ray Data counts the rows that wait for a pool only when they fill half of the memory between pools. Before that, small
# rows wait by the thousand, with 8 kB in the driver for each.
DownstreamCapacityBackpressurePolicy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD = 0.0
# Ray prints every death of a worker. The code that waits for the worker reports the consequence.
ray._private.worker.print_to_stdstream = lambda *_, **__: None
NO_USE_TO_REPEAT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE})


def start_ray(config: Config, say: Callable[[str], None] = lambda _: None) -> None:
    """Connect to the cluster that the configuration names, or start Ray on this machine. Ray itself stays silent.

    Raises UserError if neither works.

    say: is called with messages for a user who waits.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    malloc.limit_arenas()  # before Ray starts its threads here
    with _same_end():
        if address := cluster_address(config):
            _connect(address, "check --address" if config.run.address else "correct or unset RAY_ADDRESS", say)
        elif not ray.is_initialized():
            _start_here(config, say)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def stop_ray() -> None:
    """Stop the Ray that `start_ray` started, or leave the cluster that it connected to."""
    node: Any = ray._private.worker._global_node
    # Where Ray's node process has died, ray.shutdown ends this process before it can say so. The rest dies with it.
    if node is None or not any(kind in VITAL for kind, _ in node.dead_processes()):
        ray.shutdown()


def is_there() -> bool:
    """Return whether Ray has been started or connected to."""
    return ray.is_initialized()


def count_gpus() -> float:
    """Return the number of GPUs of the cluster that `start_ray` connected to."""
    return ray.cluster_resources().get("GPU", 0.0)


def card_of_a_worker() -> str:
    """Return the card of a machine of the cluster that has one. Workers with another card refuse to start."""
    return ray.get(ray.remote(num_cpus=0, num_gpus=0.01)(card).remote())


def machine() -> Machine:
    """Return the cluster that `start_ray` connected to, as one machine."""
    resources = ray.cluster_resources()
    return Machine(max(1.0, resources.get("CPU", 1.0)), resources.get("GPU", 0.0), resources.get("memory", math.inf))


def check_room(config: Config, pools: Sequence[PoolOfStages], say: Callable[[str], None] = lambda _: None) -> None:
    """Say how many workers there will be.

    Raises UserError if the pools and a reduce cannot run side by side. Ray would wait for ever without a message.
    """
    # A Ray that was started here may have more CPUs in its books than there are.
    there = machine() if cluster_address(config) else this_machine()
    say(in_words({pool.name: pool.resources for pool in pools}, there))
    resources = ray.cluster_resources()
    for name, key, reduce in (("CPUs", "CPU", config.run.reduce_cpus), ("GPUs", "GPU", 0.0)):
        wants = {
            pool.name: pool.resources.min_workers * getattr(pool.resources, f"num_{key.lower()}s") for pool in pools
        }
        if sum(wants.values()) + reduce > resources.get(key, 0.0) + 1e-9:
            wanted = ", ".join(f"{pool} {amount:g}" for pool, amount in wants.items())
            raise UserError(
                f"the pools want {wanted}{f', a reduce {reduce:g}' if reduce else ''} {name}, and the cluster has "
                f"{resources.get(key, 0.0):g}; lower run.*.workers or run.*.{key.lower()}s"
            )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise Ray's errors about the machine as MachineError, and this project's errors of a worker unchanged."""
    try:
        yield
    except Exception as error:
        plain = _plain(error)
        if plain is None:
            raise
        raise plain from error


def _plain(error: BaseException) -> Exception | None:
    """Return the error of this project inside `error`, or one that stands for Ray's own error. Return None for a
    bug."""
    causes = [link for link in _chain(error) if not isinstance(link, ray.exceptions.RayError)]
    for cause in causes:
        if isinstance(cause, UserError | MachineError | LeaseError | PassingError):
            return type(cause)(str(cause).split(ADDED_BY_RAY_DATA, maxsplit=1)[0])
        if fault := lack_of(cause):
            return fault
    for kinds, words in RAYS_WORDS:
        if isinstance(error, kinds):
            return MachineError(words.format(_one_line(error)))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the innermost first."""
    inner = getattr(error, "cause", None) or error.__cause__
    if isinstance(inner, BaseException):
        yield from _chain(inner)
    yield error


def _one_line(error: BaseException) -> str:
    """Return the first sentence of what Ray says; ids and advice for programmers follow it."""
    sentence = " ".join((str(error) or type(error).__name__).split()).split(". ", maxsplit=1)[0].rstrip(".")
    return sentence if len(sentence) <= LONGEST_CAUSE else f"{sentence[:LONGEST_CAUSE]}…"


@contextmanager
def _same_end() -> Iterator[None]:
    """Keep this process's handler of SIGTERM. Ray would replace it with one that aborts."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # Ray's handler, which holds while Ray starts
            raise KeyboardInterrupt from None
        raise
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _connect(address: str, remedy: str, say: Callable[[str], None]) -> None:
    _check_answers(address, remedy)
    # Ray refuses a variable that the environment of the submitted job also sets, and then it is set here too.
    variables = {name: value for name, value in malloc.ENVIRONMENT.items() if name not in os.environ}
    workers: dict[str, Any] = {"runtime_env": {"env_vars": variables}} if variables else {}
    for start in range(1, STARTS + 1):
        try:
            with _native_silence():
                ray.init(address=address, **workers, **SILENT)
            return
        except Exception as error:  # no server, another version, a wrong token: each raises another class
            if start == STARTS or not isinstance(error, MAY_PASS):
                raise UserError(f"cannot use the Ray cluster at {address}: {_one_line(error)}; {remedy}") from error
            say(f"the Ray cluster at {address} does not answer yet ({_one_line(error)}); trying again")
            with suppress(Exception):
                ray.shutdown()
            time.sleep(CONNECT_WAIT_S)


def _check_answers(address: str, remedy: str) -> None:
    """Raise UserError if no server listens at the address. Ray itself would try for minutes without a message."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():  # "auto" or "local"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}; {remedy}") from None


def _start_here(config: Config, say: Callable[[str], None]) -> None:
    # The pools and a reduce must fit side by side, also on one core. This is bookkeeping of Ray, not a limit on CPU
    # use.
    machine = this_machine()
    num_cpus = max(math.floor(machine.cpus), math.ceil(_cpus_of_pools(config, machine) + config.run.reduce_cpus))
    _check_files(num_cpus)
    folder = _folder()
    has_spans = config.run.observe.spans not in ("auto", 1)
    store_bytes, store_folder = _object_store(folder, LARGE_OBJECT_STORE_BYTES if has_spans else OBJECT_STORE_BYTES)
    if store_folder == folder and sys.platform == "linux":
        say(f"/dev/shm has less than {LEAST_OBJECT_STORE_BYTES >> 20} MB: Ray's object store lies in {folder}, on disk")
    # Otherwise Ray keeps a token in HOME, which may be missing or read-only.
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault(malloc.VARIABLE, malloc.ENVIRONMENT[malloc.VARIABLE])  # Ray's processes inherit it
    os.environ.setdefault("RAY_task_oom_retries", "3")  # by default Ray retries for ever without a message
    for start in range(1, STARTS + 1):
        try:
            with _native_silence():
                ray.init(
                    address="local",  # without it Ray joins the cluster that was started last on this machine
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    object_store_memory=store_bytes,
                    _plasma_directory=store_folder,
                    _temp_dir=folder,
                    **SILENT,
                )
            return
        except Exception as error:  # Ray raises plain Exceptions here
            _clear_half_started()
            if start == STARTS or isinstance(error, ValueError) or getattr(error, "errno", 0) in NO_USE_TO_REPEAT:
                raise UserError(
                    f"Ray does not start on this machine: {_one_line(error)}\n"
                    "close other programs and run the same command again, or add --set run.engine=local; "
                    f"Ray's logs are in {folder}/session_latest/logs"
                ) from error
            say(f"Ray did not start ({_one_line(error)}); trying again")


def _clear_half_started() -> None:
    """End the processes of a Ray that did not start. No other program knows them, and the next start needs their
    memory."""
    with suppress(Exception):
        ray.shutdown()
    home = os.path.dirname(ray.__file__)
    left = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = process.cmdline()
            if any(home in word for word in command) or process.name().startswith("ray::"):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, STOP_S)


def _check_files(num_cpus: int) -> None:
    """Raise UserError if this process may not open as many files as Ray needs. Ray raises the soft limit itself."""
    import resource

    needed, (_, allowed) = FILES + FILES_PER_CPU * num_cpus, resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise UserError(
            f"a process may open {allowed} files here, and Ray needs about {needed}; "
            f"raise the limit (`ulimit -Hn {max(4096, needed)}`, or LimitNOFILE= of the service)"
        )


def _folder() -> str:
    """Return a folder of this user for Ray's sockets and logs. The files at Ray's usual place may belong to another
    user."""
    bases = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), *FALLBACKS]
    tried = []
    for base in dict.fromkeys(base for base in bases if base):
        folder = Path(base).absolute() / f"ray-{os.getuid()}"
        if len(os.fsencode(folder)) > LONGEST_FOLDER:
            tried.append(f"{base}: its name is too long")
            continue
        try:
            folder.mkdir(exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise PermissionError(errno.EPERM, "somebody else has taken the name there", str(folder))
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
            if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            tried.append(f"{base}: {error.strerror}")
            continue
        return str(folder)
    raise UserError(f"there is no folder for Ray's sockets and logs ({'; '.join(tried)}); free space, or set TMPDIR")


def _object_store(folder: str, most_bytes: int) -> tuple[int, str]:
    """Return the size of Ray's object store in bytes, at most `most_bytes`, and its folder. The store is in shared
    memory, or on disk if that is too small."""
    with suppress(OSError):
        free = shutil.disk_usage("/dev/shm").free
        if free >= LEAST_OBJECT_STORE_BYTES and os.access("/dev/shm", os.W_OK | os.X_OK):
            return min(most_bytes, free * 9 // 10), "/dev/shm"
    free = shutil.disk_usage(folder).free
    if free * 9 // 10 < LEAST_OBJECT_STORE_BYTES:
        raise UserError(
            f"Ray's object store needs {LEAST_OBJECT_STORE_BYTES >> 20} MB, and neither /dev/shm nor {folder} has them"
            "; free some, set TMPDIR to another disk, or start the container with --shm-size=1g"
        )
    return min(most_bytes, free * 9 // 10), folder


@contextmanager
def _native_silence() -> Iterator[None]:
    """Send stderr to nowhere, because Ray's C++ side writes there that it will be silent. Exceptions still pass."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _cpus_of_pools(config: Config, machine: Machine) -> float:
    of_pools = resources_of(config, machine)
    names = [*of_pools, *(["enrich"] if config.run.restore else [])]
    return sum(of_pools[name].min_workers * of_pools[name].num_cpus for name in names)
