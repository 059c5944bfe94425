"""The timeline of a small run, from its first line to its end, under each engine: `rollcall bench startup`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import psutil
from rich.table import Table

from jobs.cli.console import console, say
from pipeline.errors import UserError

ENGINES = ("local", "ray")
SAID = {"rollcall": "first line", "starting Ray": "starting Ray", "processing": "loading models"}
"""The part of a run that begins with a printed line, by the first words of the line."""
FIRST_CHUNK, END = "first chunk", "end"
CHUNKS = "_work/*/enriched-*/*.parquet"
IMPORTS = {
    "imports of the driver": "import jobs.process, pipeline.flow.engine",
    "imports of a worker": "import pipeline.models.loading, pipeline.video.track, ultralytics.nn.tasks",
}
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """The time at which a run reached one of its parts.

    engine: 'local' or 'ray'; empty for imports alone.
    part: name of the part.
    seconds: s since the start of the run.
    cpu_seconds: s of CPU of all its processes until then.
    """

    engine: str
    part: str
    seconds: float
    cpu_seconds: float


def measure(clip: Path, options: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Process `clip` under each engine, and show the times side by side. Return the rows, for programs."""
    timeline = [_imported(part, code) for part, code in IMPORTS.items()]
    for engine in ENGINES:
        say(f"engine {engine}")
        output = folder / engine
        command = [sys.executable, "-m", "jobs.process", str(clip), "--output", str(output)]
        timeline += watch(engine, [*command, *options, "--set", f"run.engine={engine}"], output)
    _show(timeline)
    return [asdict(row) for row in timeline]


def watch(engine: str, command: Sequence[str], output: Path) -> list[Row]:
    """Run `command`, which writes to `output`, and return when it reached each part. Raise UserError if it fails."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        cpu_seconds = _cpu_meter(run.pid)
        lines: SimpleQueue[str] = SimpleQueue()
        assert run.stdout is not None
        Thread(target=lambda pipe: [lines.put(line) for line in pipe], args=(run.stdout,), daemon=True).start()
        reached_at: dict[str, Row] = {}
        printed: list[str] = []

        def reached(part: str) -> None:
            row = Row(engine, part, round(time.perf_counter() - started, 2), round(cpu_seconds(), 2))
            reached_at.setdefault(part, row)

        while run.poll() is None or not lines.empty():
            cpu_seconds()
            for line in _arrived(lines):
                printed.append(line)
                for beginning, part in SAID.items():
                    if line.startswith(beginning):
                        reached(part)
            if FIRST_CHUNK not in reached_at and next(output.glob(CHUNKS), None) is not None:
                reached(FIRST_CHUNK)
        reached(END)
    if run.returncode:
        raise UserError(f"--clip cannot be measured: {printed[-1].strip() if printed else command}; name another video")
    return list(reached_at.values())


def _arrived(lines: "SimpleQueue[str]") -> Iterator[str]:
    try:
        yield lines.get(timeout=POLL_S)
        while True:
            yield lines.get_nowait()
    except Empty:
        return


def _cpu_meter(pid: int) -> Callable[[], float]:
    """Return a function that returns the CPU seconds used so far by a process and all its descendants, dead ones
    included."""
    seconds_of: dict[psutil.Process, float] = {}

    def read() -> float:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            family = []
        for process in family:
            try:
                times = process.cpu_times()
                seconds_of[process] = times.user + times.system
            except psutil.Error:
                continue
        return sum(seconds_of.values())

    return read


def _imported(part: str, code: str) -> Row:
    started = time.perf_counter()
    imported = subprocess.run(
        [sys.executable, "-c", f"{code}; import time; print(time.process_time())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Row("", part, round(time.perf_counter() - started, 2), round(float(imported.stdout.split()[-1]), 2))


def _show(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("until")
    named = {(row.engine, row.part): row for row in rows}
    for engine in ENGINES:
        table.add_column(f"{engine}: s", justify="right")
        table.add_column("CPU s", justify="right")
    for part in [*SAID.values(), FIRST_CHUNK, END]:
        cells: list[str] = []
        for engine in ENGINES:
            row = named.get((engine, part))
            cells += [f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}"] if row else ["", ""]
        table.add_row(part, *cells)
    for row in rows:
        if not row.engine:
            say(f"{row.part}: {row.cpu_seconds:.1f} s of CPU")
    console.print(table)
