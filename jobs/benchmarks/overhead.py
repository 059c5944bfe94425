"""The share of the engines in the time of a run: `rollcall bench overhead`.

It times the pipeline, run exactly as `process` runs it, against a plain loop over the same models. The loop is one
process that decodes ahead in a thread, observes in a second thread and judges faces in a third, in the same batches.
Then it tracks, links and writes the same tables. The tables of all are compared byte by byte.

No time includes starting an engine and loading models. A picture goes through the whole pipeline first, down to its
tables. By then every worker is up, including the one that reduces, and the clip's first span waits in a worker. The
clock starts at the signal to begin. It stops when the driver learns that the clip is published, or when the loop has
published it.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow as pa

from jobs.benchmarks.cpu_clock import family_clock
from jobs.benchmarks.report import Row
from jobs.benchmarks.setting import Setting
from jobs.benchmarks.side_by_side import (
    CPU_SECONDS,
    SECONDS,
    Measures,
    Spent,
    Spread,
    interrupted,
    ratio_of,
    spreads_of,
    stopwatch,
    take_turns,
)
from jobs.benchmarks.warm_pipeline import WARM_UP, refuse_failure, whole_video
from jobs.cli import console
from pipeline.config import Config
from pipeline.flow import cluster, local_engine, ray_engine
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import ChunkDone, Event, VideoDone, Work
from pipeline.flow.local_engine import WorkerProcess
from pipeline.flow.pools import Maps, pools_from_pixels
from pipeline.flow.stage import PoolOfStages, Splitter
from pipeline.media.ahead import ahead
from pipeline.planning import recipe
from pipeline.planning.spans import SpanRow
from pipeline.storage.ledger import WORK, Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.parts import Part
from pipeline.video.reduce import reduce_video
from pipeline.weights import local_path

LOOP, LOCAL, RAY = "plain loop", "local engine", "Ray"
MAP_SECONDS = "seconds to the last chunk"
POLL_S = 0.01


@dataclass(slots=True)
class Timing:
    """The time of one of the ways.

    spent: the whole work.
    map_seconds: s of the clock. The work up to the last chunk, without the reduce.
    stages: s by stage. Stages that run side by side add up to more than the time of the clock.
    """

    spent: Spent = field(default_factory=Spent)
    map_seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def measures(self) -> Measures:
        """Return the times by name."""
        return (
            self.spent.measures()
            | {MAP_SECONDS: self.map_seconds}
            | {f"{name} s": seconds for name, seconds in self.stages.items()}
        )


def measure(setting: Setting, repeats: int, engines: Sequence[str]) -> tuple[list[Row], dict[str, Spread]]:
    """Time the loop and the engines on a clip, in turns, and compare their tables. Return the rows of the report, and
    the ratios to the loop."""
    config, registry = setting.config, setting.registry
    stores = {way: Store(str(setting.folder / way.replace(" ", "-"))) for way in (LOOP, *engines)}

    def work_of(way: str, number: int) -> tuple[Work, Work, list[PoolOfStages]]:
        """Return the warm-up, the work and the pools of a round. Each round has videos of its own."""
        ledger = Ledger(stores[way], recipe.keys(config, registry))
        warm_up, work = (
            whole_video(str(file), config, registry, ledger, number=number)
            for file in (local_path(WARM_UP), setting.clip.absolute())
        )
        return warm_up, work, pools_from_pixels(config, registry, ledger, "bench")

    counts = {way: count(1) for way in stores}
    loop = PlainLoop(work_of(LOOP, 0)[2])

    def time_loop() -> Measures:
        warm_up, work, _ = work_of(LOOP, next(counts[LOOP]))
        loop(warm_up)
        return loop(work).measures()

    def time_engine(engine: str) -> Measures:
        warm_up, work, pools = work_of(engine, number := next(counts[engine]))
        if engine == LOCAL:
            return time_local(warm_up, work, pools, config).measures()
        go = setting.folder / f"go-{number}"
        go.mkdir()
        return time_ray(warm_up, [work], pools, config, go).measures()

    ways = {LOOP: time_loop} | {engine: partial(time_engine, engine) for engine in engines}
    rounds = take_turns(ways, repeats, console.say)
    if not interrupted.is_set():  # otherwise one of them has a round more
        for engine in engines:
            if differing := differing_files(stores[LOOP], stores[engine]):
                raise RuntimeError(f"all ways must lead to the same bytes, and these differ: {', '.join(differing)}")
        console.say("all tables are the same, byte for byte")
    ratios = {
        f"{measure} of {engine} over the {LOOP}": ratio_of(rounds, measure, engine, LOOP)
        for engine in engines
        for measure in (SECONDS, CPU_SECONDS)
    }
    return [Row({}, way, spreads_of(rounds, way)) for way in ways], ratios


class PlainLoop:
    """The stages, one after the other in this process. It judges the faces of a chunk while it observes the next
    chunk."""

    def __init__(self, pools: Sequence[PoolOfStages]) -> None:
        first, *rest = [stage for pool in pools for stage in pool.stages]
        self._observe: Splitter = first.build()
        self._rest = [(stage.name, stage.build()) for stage in rest]

    def __call__(self, work: Work) -> Timing:
        timing, started = Timing(), time.perf_counter()
        spans = []
        with stopwatch() as timing.spent:
            for observed in ahead(self._observed(work, timing), 1):
                chunk = observed
                for name, core in self._rest:
                    before = time.perf_counter()
                    chunk = _with_columns(chunk, core(chunk))
                    timing.stages[name] += time.perf_counter() - before
                spans.append((chunk["first_cell"][0].as_py(), chunk["end_cell"][0].as_py()))
            timing.map_seconds = time.perf_counter() - started
            reduce_video(work.job.with_chunks(tuple(sorted(spans))), _track)
        timing.stages["reduce"] = timing.spent.seconds - timing.map_seconds
        return timing

    def _observed(self, work: Work, timing: Timing) -> Iterator[pa.Table]:
        for row in work.rows:
            before = time.perf_counter()
            for chunk in self._observe(row.table()):
                timing.stages["observe"] += time.perf_counter() - before
                yield chunk
                before = time.perf_counter()


def time_local(warm_up: Work, work: Work, pools: Sequence[PoolOfStages], config: Config) -> Timing:
    """Publish both videos through the local engine, with a worker process, and return the timing of the second."""
    timing, clock = Timing(), family_clock()
    worker = WorkerProcess(maps := Maps(whole=pools, kept_faces=()))
    try:
        for event in local_engine.run([warm_up], maps, worker, Deferrals(config.run.deferral_waits_s)):
            refuse_failure(event)
        with stopwatch(clock) as timing.spent:
            started = time.perf_counter()
            for event in local_engine.run([work], maps, worker, Deferrals(config.run.deferral_waits_s)):
                _note(timing, event, started)
    finally:
        worker.close()
    return timing


def time_ray(warm_up: Work, work: Sequence[Work], pools: Sequence[PoolOfStages], config: Config, go: Path) -> Timing:
    """Publish a warm-up and other videos through Ray, and return the timing of all but the warm-up.

    go: an empty folder. A file in it is the signal to begin.
    """
    timing, clock, started, cpu_before = Timing(), family_clock(), 0.0, 0.0
    signal, left = go / "go", {item.job.video_id for item in work}
    try:
        cluster.start_ray(config, console.say)
        cluster.check_room(config, pools)
        for event in ray_engine.run([warm_up, *work], _waiting(pools, warm_up, signal), config):
            refuse_failure(event)
            video_id = event.published.video_id if isinstance(event, VideoDone) else event.video_id
            if video_id in left:
                _note(timing, event, started)
                if isinstance(event, VideoDone):
                    left.remove(video_id)
                    timing.spent = Spent(time.perf_counter() - started, clock() - cpu_before)
            elif isinstance(event, VideoDone) and not signal.exists():  # with several workers it may come twice
                cpu_before = clock()
                signal.touch()
                started = time.perf_counter()
        timing.stages["observe"] -= sum(float(file.read_text()) for file in go.glob("waited-*"))
    finally:
        cluster.stop_ray()
    return timing


def _note(timing: Timing, event: Event, started: float) -> None:
    """Add the times of an event of the video that is timed."""
    refuse_failure(event)
    if isinstance(event, VideoDone):
        timing.stages["reduce"] += event.seconds
    elif isinstance(event, ChunkDone):
        timing.map_seconds = time.perf_counter() - started
        for stage, (seconds, _) in event.timings.items():
            timing.stages[stage] += seconds


def _waiting(pools: Sequence[PoolOfStages], warm_up: Work, go: Path) -> list[PoolOfStages]:
    """Return the pools with a first stage that holds back everything but the warm-up until the file `go` exists."""
    first, *rest = pools
    observe, *others = first.stages
    observe = replace(observe, build=partial(_build_waiting, observe.build, *warm_up.rows, go))
    return [replace(first, stages=(observe, *others)), *rest]


def _build_waiting(build: Callable[..., Splitter], warm_up: SpanRow, go: Path, threads: int = 0) -> Splitter:
    observe = build(threads=threads)
    is_warm = False

    def wait_and_observe(row: pa.Table) -> Iterator[pa.Table]:
        nonlocal is_warm
        if not is_warm:
            # The warm-up comes first whatever row arrives, because an actor of Ray Data may take its rows out of order.
            is_warm = True
            yield from observe(warm_up.table())
        if row.equals(warm_up.table()):
            return
        if not go.exists():
            started = time.perf_counter()
            while not go.exists():
                time.sleep(POLL_S)
            # The stage is charged for this wait, so the wait is recorded and subtracted later.
            go.with_name(f"waited-{os.getpid()}").write_text(str(time.perf_counter() - started))
        yield from observe(row)

    return wait_and_observe


def differing_files(first: Store, second: Store) -> list[str]:
    """Return the names of published files that only one of two outputs holds, or that differ by a byte."""
    names = {name for store in (first, second) for name in store.names("") if not name.startswith(f"{WORK}/")}
    both = {name for name in names if first.exists(name) and second.exists(name)}
    return sorted(name for name in names if name not in both or first.read(name) != second.read(name))


def _track(parts: Sequence[Part]) -> list[TrackingResult]:
    from pipeline.video.track import track_part  # importing torch takes seconds

    return [track_part(part) for part in parts]


def _with_columns(chunk: pa.Table, added: pa.Table) -> pa.Table:
    kept = [name for name in chunk.column_names if name not in added.column_names]
    fields = [*(chunk.schema.field(name) for name in kept), *added.schema]
    return pa.table([*(chunk[name] for name in kept), *added.columns], schema=pa.schema(fields))
