"""A disk that is full for a while: the run ends with a line that says so, and the next one makes the same bytes."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cores.plan import PlannedSpan
from pipeline.errors import MachineError
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import Event, VideoDone, Work
from pipeline.flow.local_engine import run
from pipeline.flow.local_process import At, Task, TaskRunner
from pipeline.flow.pools import Maps
from pipeline.planning.spans import span_rows
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from tests.builders import Film, Walker, chunk, configured, job_of
from tests.flow import misdeeds
from tests.interruptions import contents

FILM = Film(4.0, [Walker(0, 4, x=20)])
CHUNKS = [(0, 2), (2, -1)]
DISK_BYTES = 2 << 20
PAGE = 4096


class WorkerHere:
    """A worker that works in this process."""

    def __init__(self, maps: Maps) -> None:
        self._runner = TaskRunner(maps)

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        yield from self._runner.do(task)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)]
    try:
        mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # also while something else looks at it


def process(place: Path) -> list[Event]:
    """Make the chunks that are missing, and publish the video."""
    ledger = Ledger(Store(str(place)), Keys("o", "e"))
    durable = ledger.durable().get("v", [])
    job = job_of(FILM, durable, ledger, configured())
    rows = span_rows("v", job.uri, job.probe, [PlannedSpan(0, -1, (0, 2), tuple(first for first, _ in durable))])
    todo = Work(job=job, rows=rows if len(durable) < len(CHUNKS) else ())
    made = misdeeds.maps(ledger, {span: chunk(FILM, FILM.frames(), span) for span in CHUNKS})
    return list(run([todo], made, WorkerHere(made), Deferrals(())))


@pytest.mark.parametrize("free_pages", [0, 2, 5, 8, 12])
def test_a_full_disk_ends_the_run_with_a_line_and_the_next_run_makes_the_same_bytes(
    free_pages: int, disk: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    for place in (disk, whole):
        tables.create(Store(str(place)), keep_biometrics=False)
    process(whole)
    filler = disk / ".filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - free_pages * PAGE))
    with pytest.raises(MachineError) as ended:
        process(disk)
    assert "No space left on device; free some, and run the same command again" in str(ended.value)
    assert "\n" not in str(ended.value)
    filler.unlink()
    assert isinstance(process(disk)[-1], VideoDone)
    assert contents(disk) == contents(whole)
    assert not list(disk.rglob("*.partial"))
