"""The arenas of a process, counted by glibc itself. Each case is a process of its own."""

import ctypes
import os
import subprocess
import sys

import pytest

from pipeline import malloc
from pipeline.child import Child
from tests.patience import PATIENCE_S

IS_GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version") and "LD_PRELOAD" not in os.environ
THREADS = 12
PR_SET_THP_DISABLE = 41


def count_arenas() -> int:
    """Return the number of arenas after many threads of this process have taken memory at the same time."""
    import tempfile
    import threading
    from pathlib import Path

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
    at_once = threading.Barrier(THREADS)

    def take() -> None:
        libc.malloc(ctypes.c_size_t(4096))
        at_once.wait()

    threads = [threading.Thread(target=take) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with tempfile.NamedTemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return Path(file.name).read_text().count("<heap nr=")


def serve(connection: object) -> None:
    """Send the number of arenas of a process of Child."""
    connection.send(count_arenas())  # type: ignore[attr-defined]


def arenas_after(call: str, **environment: str) -> int:
    """Return the number of arenas of a new process that calls a function first."""
    program = f"from pipeline import malloc; {call}; from tests.test_malloc import count_arenas; print(count_arenas())"
    return number_of(program, environment)


def number_of(program: str, environment: dict[str, str]) -> int:
    """Return the number that a new process prints. Of the settings of malloc it has only those of `environment`."""
    inherited = {name: value for name, value in os.environ.items() if name not in (malloc.VARIABLE, *malloc.KEEPING)}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return int(ended.stdout)


@pytest.mark.skipif(not IS_GLIBC, reason="counts the arenas of glibc's malloc")
def test_a_process_that_limits_its_arenas_has_few_and_the_users_own_limit_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert arenas_after("malloc.limit_arenas()") == malloc.MOST_ARENAS
    assert arenas_after("None") > malloc.MOST_ARENAS
    assert arenas_after("malloc.limit_arenas()", **{malloc.VARIABLE: "5"}) == 5
    monkeypatch.delenv(malloc.VARIABLE, raising=False)
    child = Child("tests.test_malloc")
    assert child.receive(PATIENCE_S) == malloc.MOST_ARENAS
    child.close()


def faults_after(call: str, **environment: str) -> int:
    """Return how often the system had to give a new process pages while it used a large block again and again."""
    program = f"""
import ctypes, resource, numpy
from pipeline import malloc
ctypes.CDLL(None).prctl({PR_SET_THP_DISABLE}, 1, 0, 0, 0)  # how many huge pages are free differs from run to run
{call}
numpy.ones(40 << 20, numpy.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(40 << 20, numpy.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    return number_of(program, environment)


@pytest.mark.skipif(not IS_GLIBC, reason="counts the pages that glibc's malloc asks for")
def test_a_process_that_keeps_what_it_frees_uses_its_memory_again_and_the_users_own_settings_come_first() -> None:
    every_time = faults_after("None")
    assert faults_after("malloc.keep_freed()") < every_time / 5
    assert faults_after("malloc.keep_freed()", MALLOC_TRIM_THRESHOLD_="131072") > every_time / 2
