"""The share of Ray in the time of a run: `rollcall bench overhead`.

It times the pipeline, run exactly as `process` runs it, against a plain loop over the same models. The loop is one
process that decodes ahead in a thread, observes in a second thread and judges faces in a third, in the same batches.
Then it tracks, links and writes the same tables. The tables of both are compared byte by byte.

Neither time includes starting Ray and loading models. A picture goes through the whole pipeline first, down to its
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
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.cli import console
from pipeline.config import Config
from pipeline.errors import DataError, UserError
from pipeline.flow import cluster, ray_engine
from pipeline.flow.events import VideoDeferred, VideoDone, VideoFailed, Work
from pipeline.flow.pools import pools_from_pixels
from pipeline.flow.stage import PoolOfStages, Splitter
from pipeline.media.ahead import ahead
from pipeline.media.probing import probe
from pipeline.planning import recipe
from pipeline.planning.spans import SpanRow, span_rows, spans_to_decode
from pipeline.storage.content_ids import content_id
from pipeline.storage.ledger import WORK, Ledger
from pipeline.storage.source_files import opener
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.job import VideoJob
from pipeline.video.parts import Part
from pipeline.video.reduce import reduce_video
from pipeline.weights import Registry, local_path

WARM_UP = "package:ultralytics/assets/bus.jpg"
POLL_S = 0.01


@dataclass(slots=True)
class Timing:
    """Wall time of one of the two ways.

    seconds: s. The whole work.
    map_seconds: s. The work up to the last chunk, without the reduce.
    stages: s by stage. Stages that run side by side add up to more than the wall time.
    """

    seconds: float = 0.0
    map_seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def plain(self) -> dict[str, Any]:
        """Return the times for the report of the command, rounded to milliseconds."""
        stages = {name: round(seconds, 3) for name, seconds in self.stages.items()}
        return {"seconds": round(self.seconds, 3), "map_seconds": round(self.map_seconds, 3), "stages": stages}


def measure(clip: Path, config: Config, registry: Registry, folder: Path) -> dict[str, Any]:
    """Time both ways on `clip`, compare their tables, and return the figures for the report.

    folder: an empty folder for the outputs of both.
    """
    load_before = os.getloadavg()[0]
    plain_store, ray_store = Store(str(folder / "plain")), Store(str(folder / "pipeline"))

    def prepared(store: Store) -> tuple[Work, Work, list[PoolOfStages]]:
        ledger = Ledger(store, recipe.keys(config, registry))
        warm_up = _work(str(local_path(WARM_UP)), config, registry, ledger)
        return (
            warm_up,
            _work(str(clip.absolute()), config, registry, ledger),
            pools_from_pixels(config, registry, ledger, "bench"),
        )

    warm_up, work, pools = prepared(plain_store)
    probed = work.job.probe
    console.say(
        f"{clip}: {probed.duration_s:.1f} s, {probed.width}x{probed.height}, on {config.compute.device}, "
        f"{os.cpu_count()} cores, load {load_before:.1f}"
    )
    if load_before > 0.25 * (os.cpu_count() or 1):
        console.say("this machine is busy with other work: take the figures for rough ones")
    console.say("plain loop: loading models")
    plain = time_plain_loop(warm_up, work, pools)
    _say("plain loop", plain)
    console.say("pipeline: starting Ray, loading models")
    pipeline = _time_pipeline(*prepared(ray_store), config, folder / "go")
    _say("pipeline", pipeline)

    if differing := differing_files(plain_store, ray_store):
        raise RuntimeError(f"the two ways must lead to the same bytes, and these differ: {', '.join(differing)}")
    console.say("all tables are the same, byte for byte")
    ratio = round(pipeline.seconds / plain.seconds, 3)
    console.say(f"overhead_ratio: {ratio}")
    return {
        "overhead_ratio": ratio,
        "pipeline": pipeline.plain(),
        "plain_loop": plain.plain(),
        "clip": str(clip),
        "duration_s": round(probed.duration_s, 3),
        "num_spans": len(work.rows),
        "device": config.compute.device,
        "num_cores": os.cpu_count(),
        "load_before": round(load_before, 2),
    }


def time_plain_loop(warm_up: Work, work: Work, pools: Sequence[PoolOfStages]) -> Timing:
    """Publish both videos without Ray, and return the timing of the second."""
    loop = PlainLoop(pools)
    loop(warm_up)
    return loop(work)


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
        for observed in ahead(self._observed(work, timing), 1):
            chunk = observed
            for name, core in self._rest:
                before = time.perf_counter()
                chunk = _with_columns(chunk, core(chunk))
                timing.stages[name] += time.perf_counter() - before
            spans.append((chunk["first_cell"][0].as_py(), chunk["end_cell"][0].as_py()))
        timing.map_seconds = time.perf_counter() - started
        reduce_video(work.job.with_chunks(tuple(sorted(spans))), _track)
        timing.seconds = time.perf_counter() - started
        timing.stages["reduce"] = timing.seconds - timing.map_seconds
        return timing

    def _observed(self, work: Work, timing: Timing) -> Iterator[pa.Table]:
        for row in work.rows:
            before = time.perf_counter()
            for chunk in self._observe(row.table()):
                timing.stages["observe"] += time.perf_counter() - before
                yield chunk
                before = time.perf_counter()


def _time_pipeline(warm_up: Work, work: Work, pools: Sequence[PoolOfStages], config: Config, go: Path) -> Timing:
    """Publish both videos through Ray, and return the timing of the second.

    go: a file that does not exist yet. Its creation is the signal to begin.
    """
    timing, started = Timing(), 0.0
    try:
        cluster.start_ray(config, console.say)
        cluster.check_room(config, pools)
        for event in ray_engine.run([warm_up, work], _waiting(pools, warm_up, go), config):
            if isinstance(event, VideoFailed | VideoDeferred):
                raise UserError(
                    f"there is nothing to measure, the clip fails at {event.stage}: {event.reason}; name another --clip"
                )
            if isinstance(event, VideoDone) and event.published.video_id == warm_up.job.video_id:
                if not go.exists():  # with several workers the picture may come twice
                    go.touch()
                    started = time.perf_counter()
            elif isinstance(event, VideoDone):
                timing.seconds = time.perf_counter() - started
                timing.stages["reduce"] = event.seconds
                timing.stages["observe"] -= sum(float(file.read_text()) for file in go.parent.glob("waited-*"))
            elif event.video_id == work.job.video_id:
                timing.map_seconds = time.perf_counter() - started
                for stage, (seconds, _) in event.timings.items():
                    timing.stages[stage] += seconds
    finally:
        cluster.stop_ray()
    return timing


def _waiting(pools: Sequence[PoolOfStages], warm_up: Work, go: Path) -> list[PoolOfStages]:
    """Return the pools with a first stage that holds back everything but the warm-up until the file `go` exists."""
    first, *rest = pools
    observe, *others = first.stages
    observe = replace(observe, build=partial(_build_waiting, observe.build, *warm_up.rows, go))
    return [replace(first, stages=(observe, *others)), *rest]


def _build_waiting(build: Callable[[], Splitter], warm_up: SpanRow, go: Path) -> Splitter:
    observe = build()
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


def _work(uri: str, config: Config, registry: Registry, ledger: Ledger) -> Work:
    """Return the work of a whole video of which nothing is durable."""
    try:
        video_id, probed = content_id(Source(uri=uri, name=uri, named_by=uri)), probe(opener(uri))
    except DataError as error:
        raise UserError(f"--clip {uri}: {error}; name another") from error
    job = VideoJob(
        video_id=video_id,
        uri=uri,
        probe=probed,
        chunks=(),
        csv_names=(f"csv/{Path(uri).name}.csv",),
        ledger=ledger,
        config=config,
        config_id=recipe.config_id(config, registry),
        spaces=recipe.spaces(config, registry),
        priors=recipe.priors(recipe.registry_likenesses(config, registry)),
    )
    spans = spans_to_decode(probed, config, [])
    return Work(job=job, rows=span_rows(video_id, uri, probed, spans))


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


def _say(engine: str, timing: Timing) -> None:
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timing.stages.items())
    console.say(f"{engine}: {timing.seconds:.1f} s ({stages})")
