"""Measure the driver of `process` on a large simulated archive, and how a run grows with the nodes of a cluster.

    python -m tests.bench.large_archive [--videos N] [--chunks N] [--engines local ray] [--stop-at SHARE] [--profile]
    python -m tests.bench.large_archive --nodes 1 2 4 8 [--chunks-per-node N] [--sleep S]

The models, the decoding and the tables are simulated (tests/bench/simulated_archive.py), and everything else is real.
For each engine, one run is interrupted after --stop-at of its chunks, and another one resumes it, each in a fresh
process. A row has:

    first    seconds of the clock, and of the driver's CPU, until the first chunk is durable
    ms       CPU of the driver for a chunk, in milliseconds: in the first tenth of the run's chunks, in the last, in all
    kB       growth of the driver's memory for a chunk, between the first tenth and the last
    MB       memory of the driver at the first chunk and at the end, without what it shares with other processes

With --nodes, the detector of people sleeps over each chunk. A cluster of so many nodes, with one worker of each pool on
each, is started on this machine. A row has the chunks per second, from the first chunk to the last, and their ratio to
what as many workers could do that only sleep.
"""

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from jobs.cli.options import STARTER
from jobs.shared.checks import verified_models
from jobs.shared.processing import work_through
from jobs.shared.run_record import RunRecord
from pipeline.child import Child
from pipeline.config import load
from pipeline.flow import local_engine, pools
from pipeline.flow.events import ChunkDone, Event
from pipeline.planning import catalog
from pipeline.storage.listing import list_sources
from pipeline.storage.store import Store
from tests.bench.simulated_archive import CHUNK_S, Simulation, reduce_simulated, write_sources

TENTHS = 10
ROW = (
    "{engine:7} {run:7} {chunks:8,} {first_s:7.1f} {first_cpu_s:7.1f} {ms_first:7.2f} {ms_last:7.2f} {ms:7.2f} "
    "{growth_kb:8.3f} {first_mb:8.1f} {end_mb:8.1f}"
)
NODES_ROW = "{nodes:5} {chunks:7,} {chunks_per_s:9.2f} {share_of_linear:10.1%}"
HEAD = "engine  run       chunks   first  CPU s  ms first    last     all    kB      MB first      end"


@dataclass(slots=True)
class Point:
    """The driver after so many chunks.

    chunks: number of chunks that are durable.
    clock_s: s since the start of the run.
    cpu_s: s of CPU of the driver since its start.
    megabytes: memory that only the driver uses.
    """

    chunks: int
    clock_s: float
    cpu_s: float
    megabytes: float


@dataclass(slots=True)
class Observer:
    """Observes the driver from within, at its first chunk and at each tenth of its chunks.

    expected: number of chunks that the run will make.
    stop_at: number of chunks after which the run is interrupted.
    """

    expected: int
    stop_at: int
    points: list[Point] = field(default_factory=list)
    chunks: int = 0
    last_s: float = 0.0
    started_s: float = field(default_factory=time.perf_counter)

    def see(self, event: Event) -> None:
        """Take an event of the run."""
        if not isinstance(event, ChunkDone):
            return
        self.chunks += 1
        self.last_s = time.perf_counter()
        if self.chunks == 1 or self.chunks % max(1, self.expected // TENTHS) == 0:
            self.note()
        if self.chunks == self.stop_at:
            raise KeyboardInterrupt

    def note(self) -> None:
        """Measure the driver now."""
        used = psutil.Process().memory_full_info().uss / 1e6
        self.points.append(Point(self.chunks, time.perf_counter() - self.started_s, time.process_time(), used))

    def figures(self) -> dict[str, Any]:
        """Return the figures of a row."""
        first, tenths, end = self.points[0], self.points[1:-1], self.points[-1]
        growth = (tenths[-1].megabytes - tenths[0].megabytes) * 1e3 / (tenths[-1].chunks - tenths[0].chunks)
        return {
            "chunks": self.chunks,
            "first_s": first.clock_s,
            "first_cpu_s": first.cpu_s,
            "ms_first": _ms_per_chunk(first, tenths[0]),
            "ms_last": _ms_per_chunk(tenths[-2], tenths[-1]),
            "ms": end.cpu_s * 1e3 / self.chunks,
            "growth_kb": growth,
            "first_mb": first.megabytes,
            "end_mb": end.megabytes,
            "megabytes": [round(point.megabytes, 1) for point in self.points],
            "chunks_per_s": (self.chunks - 1) / max(1e-9, self.last_s - self.started_s - first.clock_s),
        }


def _ms_per_chunk(before: Point, after: Point) -> float:
    return (after.cpu_s - before.cpu_s) * 1e3 / (after.chunks - before.chunks)


@contextmanager
def simulating(simulation: Simulation, observer: Observer) -> Iterator[None]:
    """Let `process` simulate its videos within the block, and let `observer` see its events."""
    made, made_of_faces, noted = pools.pools_from_pixels, pools.pools_from_kept_faces, RunRecord.note

    def note(record: RunRecord, event: Event) -> None:
        noted(record, event)
        observer.see(event)

    with (
        mock.patch.object(pools, "pools_from_pixels", lambda *options: simulation.pools(made(*options))),
        mock.patch.object(pools, "pools_from_kept_faces", lambda *options: simulation.pools(made_of_faces(*options))),
        mock.patch.object(catalog, "probe_all", simulation.probe_all),
        mock.patch.object(local_engine, "Child", lambda _, files: Child("tests.bench.simulated_archive", files)),
        mock.patch.object(RunRecord, "note", note),
    ):
        yield


@contextmanager
def simulating_reduces() -> Iterator[None]:
    """Let the Ray engine simulate its reduces."""
    import ray

    from pipeline.flow import ray_engine

    with mock.patch.object(ray_engine, "_reduce", ray.remote(max_retries=0)(reduce_simulated)):
        yield


def run(place: Path, simulation: Simulation, observer: Observer, engine: str, *settings: str) -> dict[str, Any]:
    """Process the archive at `place` in this process, and return the figures of the driver."""
    config = load([], [f"run.engine={engine}", f"chunk.max_seconds={CHUNK_S}", *settings], STARTER)
    store = Store(str(place / "out"))
    with simulating(simulation, observer):
        listing = list_sources([str(place / "in")], store.uri)
        arguments = (listing, config, verified_models(config), store)
        with suppress(KeyboardInterrupt):
            if engine == "ray":
                with simulating_reduces():
                    work_through(*arguments)
            else:
                work_through(*arguments)
    observer.note()
    return observer.figures()


def measure(
    place: Path, engine: str, videos: int, chunks: int, stop_at: float, profile: bool = False
) -> Iterator[dict[str, Any]]:
    """Run the archive in one fresh process until it is interrupted, and in another one until its end."""
    write_sources(place / "in", videos)
    total = videos * chunks
    stops = {"run": round(total * stop_at), "resume": total} if stop_at < 1 else {"run": total}
    done = 0
    for name, stop in stops.items():
        here = ["--here", str(place), "--engines", engine, "--chunks", str(chunks), "--sleep", "0"]
        case = [*here, "--expect", str(stop - done), "--stop-at", str(stop - done if stop < total else 0)]
        row = _in_fresh_process([*case, *(["--profile"] if profile else [])])
        done += row["chunks"]
        yield {"engine": engine, "run": name} | row


def measure_nodes(place: Path, nodes: int, chunks: int, sleep_s: float) -> dict[str, Any]:
    """Run `chunks` chunks per node on a cluster of so many nodes, in a fresh process."""
    write_sources(place / "in", nodes * 2)
    here = ["--here", str(place), "--engines", "ray", "--chunks", str(chunks // 2), "--sleep", str(sleep_s)]
    row = _in_fresh_process([*here, "--expect", str(nodes * chunks), "--stop-at", "0", "--nodes", str(nodes)])
    return {"nodes": nodes, "share_of_linear": row["chunks_per_s"] * sleep_s / nodes} | row


def _in_fresh_process(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.large_archive", *arguments]
    path = os.pathsep.join(dict.fromkeys([str(Path(__file__).parents[2]), *filter(None, sys.path)]))
    environment = os.environ | {"PYTHONPATH": path}
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(ended.stdout.splitlines()[-1])


def run_here(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one case in this process."""
    observer = Observer(arguments.expect, int(arguments.stop_at))
    simulation = Simulation(arguments.chunks, arguments.sleep)
    if not arguments.nodes:
        return run(arguments.here, simulation, observer, arguments.engines[0])
    from ray.cluster_utils import Cluster

    (nodes,) = arguments.nodes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        workers = [
            f"run.{pool}.{knob}={nodes}" for pool in ("observe", "enrich") for knob in ("workers", "max_workers")
        ]
        address = f"run.address={cluster.address}"
        return run(arguments.here, simulation, observer, "ray", address, *workers)
    finally:
        cluster.shutdown()


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--engines", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    parser.add_argument("--stop-at", type=float, default=0.5, help="share of the chunks; 1: the run is not interrupted")
    parser.add_argument("--nodes", type=int, nargs="+", default=[])
    parser.add_argument("--chunks-per-node", type=int, default=40)
    parser.add_argument("--sleep", type=float, default=2.0, help="s over each chunk, with --nodes")
    parser.add_argument("--place", type=Path, help="a folder for the archive; otherwise a temporary one")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--profile", action="store_true", help="print where the driver spends its time")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--expect", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        profiler = cProfile.Profile()
        figures = profiler.runcall(run_here, arguments) if arguments.profile else run_here(arguments)
        if arguments.profile:
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(40)
        print(json.dumps(figures), flush=True)
        return
    figures = []
    print("nodes  chunks  chunks/s  of linear" if arguments.nodes else HEAD, flush=True)
    for case in arguments.nodes or arguments.engines:
        place = Path(tempfile.mkdtemp(dir=arguments.place))
        try:
            if arguments.nodes:
                rows = iter([measure_nodes(place, case, arguments.chunks_per_node, arguments.sleep)])
            else:
                size = arguments.videos, arguments.chunks
                rows = measure(place, case, *size, arguments.stop_at, arguments.profile)
            for row in rows:
                print((NODES_ROW if arguments.nodes else ROW).format(**row), flush=True)
                figures.append(row)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
