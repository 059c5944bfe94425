"""The timeline of a small run, from its command to its end, under each engine: `rollcall bench startup`."""

import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO

from jobs.benchmarks.cpu_clock import family_clock
from jobs.benchmarks.options import Engine
from jobs.benchmarks.report import Row
from jobs.benchmarks.setting import Setting
from jobs.benchmarks.side_by_side import CPU_SECONDS, SECONDS, Measures, Spread, take_turns
from jobs.cli.console import say
from pipeline.errors import UserError

SAID = {"rollcall": "first line", "starting Ray": "starting Ray", "processing": "loading models"}
"""The part of a run that begins with a printed line, by the first words of the line."""
QUARANTINED = "quarantined at "
"""The beginning of the line that says why a video fails. The last line of a run names only the output."""
LOADED, FIRST_CHUNK, END = "models loaded", "first chunk", "end"
PARTS = (*SAID.values(), LOADED, FIRST_CHUNK, END)
CHUNKS = "_work/*/enriched-*/*.parquet"
IMPORTS_OF_RAY = {"imports of Ray": "import ray, ray.data"}
IMPORTS = {
    "imports of the driver": "import jobs.process, jobs.shared.processing",
    "imports of a worker": "import pipeline.models.loading, pipeline.video.track, ultralytics.nn.tasks",
}
POLL_S = 0.05
CPU = f" {CPU_SECONDS}"


def measure(setting: Setting, repeats: int, engine: Engine = Engine.BOTH) -> list[Row]:
    """Process the clip under each engine in turn, and import what the parts of a run import. Return when each part
    began, and the CPU seconds until then."""
    engines = (Engine.LOCAL, Engine.RAY) if engine is Engine.BOTH else (engine,)
    outputs = iter(range(10**6))

    def run(engine: str) -> Measures:
        output = setting.folder / f"{engine}-{next(outputs)}"
        command = [sys.executable, "-m", "jobs.process", str(setting.clip), "--output", str(output)]
        return watch([*command, *setting.knobs.words(), "--log", "json", "--set", f"run.engine={engine}"], output)

    ways = {str(engine): partial(run, engine) for engine in engines}
    imports = IMPORTS | (IMPORTS_OF_RAY if Engine.RAY in engines else {})
    ways |= {name: partial(_imported, code) for name, code in imports.items()}
    rounds = take_turns(ways, repeats, say)
    rows = []
    for way in ways:
        for part in PARTS:
            values = [
                (measured[way][part], measured[way].get(part + CPU)) for measured in rounds if part in measured[way]
            ]
            if values:
                seconds, cpu_seconds = zip(*values, strict=True)
                figures = {SECONDS: Spread(seconds)}
                figures |= {CPU_SECONDS: Spread(cpu_seconds)} if None not in cpu_seconds else {}
                rows.append(Row({"until": part}, way, figures))
    return rows


def watch(command: Sequence[str], output: Path) -> Measures:
    """Run `command`, which writes to `output`. Return the seconds since its start at which it reached each part of
    PARTS, and under the name of the part with CPU behind it, the CPU seconds of all its processes until then.

    Raises UserError if the command fails.
    """
    started, started_at = time.perf_counter(), time.time()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as run:
        cpu_seconds = family_clock(run.pid)
        assert run.stdout is not None
        os.set_blocking(run.stdout.fileno(), False)
        reached: dict[str, float] = {}
        printed, rest, has_ended = list[str](), b"", False

        def reach(part: str) -> None:
            if part not in reached:
                reached[part], reached[part + CPU] = time.perf_counter() - started, cpu_seconds()

        while not has_ended:
            # What was printed before these looks is read after them, so that the parts keep their order.
            has_ended, has_chunk = run.poll() is not None, next(output.glob(CHUNKS), None) is not None
            cpu_seconds()
            *lines, rest = (rest + _arrived(run.stdout, 0 if has_ended else POLL_S)).split(b"\n")
            for line in (line.decode(errors="replace") for line in (*lines, *([rest] if has_ended and rest else []))):
                if line.startswith("{"):
                    if '"chunk_began"' in line:  # the worker's models are loaded
                        reach(LOADED)
                    continue
                printed.append(line)
                for beginning, part in SAID.items():
                    if line.startswith(beginning):
                        reach(part)
            if has_chunk:
                reach(FIRST_CHUNK)
        reach(END)
    if run.returncode:
        reasons = [line for line in printed if line.startswith(QUARANTINED)] or printed[-1:] or [shlex.join(command)]
        raise UserError(f"--clip cannot be measured: {reasons[0].strip()}; name another video")
    if LOADED not in reached and (began_at := _first_chunk_began(output)):  # Ray's workers have no stderr here
        reached[LOADED] = began_at - started_at
    return reached


def _first_chunk_began(output: Path) -> float | None:
    """Return the Unix time at which a worker began its first chunk, by the events that the run has left."""
    events = [line for file in output.glob("_events/*/*.jsonl") for line in file.read_text().splitlines()]
    times = [event["ts"] for event in map(json.loads, events) if event["event"] == "chunk_began"]
    return min((datetime.fromisoformat(ts).timestamp() for ts in times), default=None)


def _arrived(pipe: IO[bytes], patience_s: float) -> bytes:
    """Return what a pipe that does not block holds, after a wait for it. Nothing more comes out of a closed one."""
    select.select([pipe], [], [], patience_s)
    if not (content := pipe.read()):
        time.sleep(patience_s)
    return content or b""


def _imported(code: str) -> Measures:
    started = time.perf_counter()
    imported = subprocess.run(
        [sys.executable, "-c", f"{code}; import time; print(time.process_time())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {END: time.perf_counter() - started, END + CPU: float(imported.stdout.split()[-1])}
