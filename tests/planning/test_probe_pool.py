"""Containers are probed in processes beside the run, which outlives all that a file can do to them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.child import Child
from pipeline.errors import DataError
from pipeline.media.pictures import encode_jpeg
from pipeline.planning import catalog, probe_pool
from pipeline.planning.catalog import Content, Failure
from pipeline.planning.probe_pool import ProbePool
from pipeline.storage import faults, remote
from tests.planning import probe_misdeeds

GOOD = ["a.jpg", "b.jpg"]


@pytest.fixture(autouse=True)
def bad_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_pool, "CHILD", probe_misdeeds.__name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(GOOD):
        (tmp_path / name).write_bytes(encode_jpeg(np.full((32, 48, 3), 40 * number, np.uint8), 90))
    return tmp_path


@pytest.fixture
def pool() -> Iterator[ProbePool]:
    with ProbePool() as pool:
        yield pool


class HurriedChild(Child):
    """A process that is given a second for each file that hangs, and all the time for others."""

    def send(self, message: str) -> None:
        self._hangs = Path(message).name.startswith("hang")
        super().send(message)

    def receive(self, patience_s: float | None = None) -> Any:
        return super().receive(1.0 if self._hangs and patience_s == probe_pool.DEADLINE_S else patience_s)


@pytest.mark.parametrize(
    ("misdeed", "reason"),
    [
        ("crash", "crashed with signal 11 (SIGSEGV), 2 times"),
        ("exit", "ended with status 7, 2 times"),
        ("hang", "reading its header took longer than 1 s"),
        ("fill", "takes more memory than there is"),
        ("err", "a bug: ZeroDivisionError: nobody foresaw this; please report it"),
        ("refuse", "no frame can be decoded"),
    ],
)
def test_a_file_that_harms_its_process_is_the_only_one_given_up(
    folder: Path, misdeed: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_pool, "Child", HurriedChild)
    names = [GOOD[0], f"{misdeed}.mp4", GOOD[1]]
    probes = catalog.probe_all([Content(video_id=name, uris=(str(folder / name),)) for name in names])
    failure = probes[f"{misdeed}.mp4"]
    assert isinstance(failure, Failure)
    assert failure.stage == "probe"
    assert reason in failure.reason
    assert not failure.may_pass
    assert (failure.bug is not None) == (misdeed == "err")
    for name in GOOD:
        probed = probes[name]
        assert not isinstance(probed, Failure)
        assert (probed.width, probed.height) == (48, 32)


def test_a_process_that_dies_once_is_replaced(folder: Path, pool: ProbePool) -> None:
    assert pool.probe(str(folder / "once.jpg.crash")).width == 48
    assert (folder / "once.jpg.crash.died").exists()


def test_requests_and_bytes_of_the_process_are_counted_here(pool: ProbePool, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[object] = []
    monkeypatch.setattr(faults, "retry_listeners", [lambda *repeated: noted.append(repeated)])
    monkeypatch.setattr(remote, "read_listeners", [noted.append])
    with pytest.raises(DataError):
        pool.probe("retry.mp4")
    assert noted == [("SlowDown", "a bucket sleeps", 2.5), 123]


def test_one_process_probes_many_files(folder: Path, pool: ProbePool, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[object] = []
    child = probe_pool.Child
    monkeypatch.setattr(probe_pool, "Child", lambda module: children.append(module) or child(module))
    for name in GOOD * 3:
        pool.probe(str(folder / name))
    assert len(children) == 1
