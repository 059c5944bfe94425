"""Measure memory and time of tracking, and of the whole reduce, for one simulated shot of some hours.

    python -m tests.bench.tracking_at_scale [--hours 1 2 3] [--ray 1 2 3] [--place DIR] [--json FILE] [--set K=V …]

The shot has 25 frames per second, 8 of them analysed. On average 5 people are there, who come and go. Some
detections are missed and some are weak. About every ten minutes there is a pause of about a minute. Every detection
has an embedding of 512 int8 values, and everybody has one for a face every two seconds. The durable chunks of 30 s
are written one by one (about 60 MB per hour).

For each of --hours, it reduces the shot in a fresh process on one core. It prints the seconds of CPU of the tracking
and of the rest of the reduce (cuts, faces, links, tables). It also prints the growth of peak memory (ru_maxrss) in
each, over a process that has just reduced one minute.

For each of --ray, it does the same on two cores, over which Ray spreads the parts. The workers have loaded the
trackers before. It prints the seconds on the clock and of CPU, workers included.

Last it prints the estimate for a day, by the slope between the shortest and the longest shot. The status is 1 if a
table differs by a byte between one core and Ray.
"""

import argparse
import hashlib
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import load
from pipeline.cores.likeness import WIDE
from pipeline.flow import ray_engine
from pipeline.storage import tables
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.parts import Part, RunParts
from pipeline.video.reduce import publish_chunks
from pipeline.video.timeline import read_timeline
from pipeline.video.track import track_part

FPS, ANALYSED_FPS, CHUNK_S = 25, 8, 30
WIDTH, HEIGHT, PIXELS = 1920, 1080, 1000
PEOPLE, STAY_S = 5.0, 60.0
OPEN_S, PAUSE_S = 600.0, 60.0
DIMENSIONS = 512
FRAME_NS = 10**9 // FPS


@dataclass(slots=True)
class Person:
    look: NDArray[np.float32]
    face: NDArray[np.float32]
    box: NDArray[np.float64]
    velocity: NDArray[np.float64]
    leaves_s: float


class Scene:
    """People who come and go. Times must be asked for in rising order."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._people: list[Person] = []
        self._now_s = 0.0
        self._turns_s = OPEN_S
        self._is_open = True

    def at(self, time_s: float) -> list[Person]:
        rng, elapsed_s = self._rng, time_s - self._now_s
        self._now_s = time_s
        if time_s >= self._turns_s:
            self._is_open = not self._is_open
            self._turns_s = time_s + rng.exponential(OPEN_S if self._is_open else PAUSE_S)
        self._people = [person for person in self._people if self._is_open and person.leaves_s > time_s]
        if self._is_open:
            rate = PEOPLE / STAY_S * (OPEN_S + PAUSE_S) / OPEN_S
            self._people += [self._newcomer() for _ in range(rng.poisson(rate * elapsed_s))]
        for person in self._people:
            person.box += np.tile(person.velocity * elapsed_s, 2)
            speed = np.abs(person.velocity)  # people turn round at the border
            person.velocity = np.where(person.box[:2] < 0, speed, person.velocity)
            person.velocity = np.where(person.box[2:] > (WIDTH, HEIGHT), -speed, person.velocity)
        return self._people

    def _newcomer(self) -> Person:
        rng = self._rng
        height = rng.uniform(150, 400)
        left, top = rng.uniform(0, WIDTH - 200), rng.uniform(0, HEIGHT - height)
        look, face = rng.normal(size=(2, DIMENSIONS)).astype(np.float32)
        velocity = rng.normal(size=2) * (40, 10)
        box = np.array([left, top, left + 0.4 * height, top + height])
        return Person(look, face, box, velocity, self._now_s + rng.exponential(STAY_S))

    def vector(self, mean: NDArray[np.float32]) -> dict[str, Any]:
        one = Quantised.of((mean + self._rng.normal(size=DIMENSIONS) * 0.4).astype(np.float32)[None])
        return {"codes": one.codes[0].tobytes(), "scale": float(one.scales[0])}

    def seen(self) -> bool:
        return bool(self._rng.random() < 0.95)

    def score(self) -> float:
        return round(float(self._rng.choice([0.9, 0.7, 0.3], p=[0.8, 0.15, 0.05])), 3)


def simulate(hours: float, place: str, *settings: str) -> VideoChunks:
    """Make the chunks of a shot durable at `place`, one after the other, unless they are there already."""
    config = load(settings=settings).on_device("cpu")
    store = Store(place)
    ledger = Ledger(store, Keys("o", "e"))
    starts = range(0, round(hours * 3600), CHUNK_S)
    spans = tuple((start, start + CHUNK_S if start != starts[-1] else -1) for start in starts)
    if ledger.durable().get("v") != list(spans):
        scene = Scene()
        for span in spans:
            ledger.commit("v", span, *_chunk(scene, span[0]))
    tables.create(store, config.biometrics.keep)
    return VideoChunks(
        video_id="v",
        chunks=spans,
        csv_names=("csv/v.csv",),
        ledger=ledger,
        config=config,
        spaces={"body": "looks", "face": "faces"},
        priors=WIDE,
    )


def _chunk(scene: Scene, start_s: int) -> tuple[pa.Table, pa.Table]:
    frames, detections, faces = [], [], []
    slot = -1
    for place in range(CHUNK_S * FPS):
        time_s = start_s + place / FPS
        analysed = int(time_s * ANALYSED_FPS) != slot
        slot = int(time_s * ANALYSED_FPS)
        change = dict.fromkeys(("hue", "saturation", "lightness"), 2 * PIXELS)
        time_ns = (start_s * FPS + place) * FRAME_NS
        frames.append({"time_ns": time_ns, "cell": int(time_s), "analysed": analysed} | change)
        for person in scene.at(time_s) if analysed else ():
            if scene.seen():
                box = np.clip(np.round(person.box, 1), 0, np.tile((WIDTH, HEIGHT), 2)).tolist()
                if slot % (2 * ANALYSED_FPS) == 0:
                    faces.append(_face(len(detections), place, box, scene.vector(person.face)))
                found = {"frame": place, "box": box, "score": scene.score(), "bodiless": False}
                detections.append(found | {"embedding": scene.vector(person.look)})
    head = {"warning": None, "width": WIDTH, "height": HEIGHT, "thumbnail_pixels": PIXELS}
    observed = pa.Table.from_pylist([head | {"frames": frames, "detections": detections}], schema=rows.OBSERVED)
    return observed, pa.Table.from_pylist([{"faces": faces, "aligned": None}], schema=rows.ENRICHED)


def _face(detection: int, frame: int, box: list[float], vector: dict[str, Any]) -> dict[str, Any]:
    left, top, right, _ = box
    told = {"score": 0.9, "sharpness": 90.0, "quality": 0.8, "judged": True, "restored": False}
    place = {"box": [left, top, right, top + right - left], "landmarks": [left] * 10}
    estimate = {"age": 40.0, "age_std": 6.0, "female_prob": 0.9}
    return {"detection": detection, "frame": frame, "embedding": vector} | told | place | estimate


# --- one measurement, in a process of its own ------------------------------------------------------------------------


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its living descendants, which are Ray's workers."""
    own = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (own, *own.children(recursive=True)))


def measure(hours: float, place: str, over_ray: bool, settings: Sequence[str]) -> dict[str, Any]:
    """Reduce the shot at `place`. Return its time, its memory, and a digest of the files."""
    chunks = simulate(hours, place, *settings)
    marks: list[tuple[float, float, float]] = []

    num_parts = 0

    def mark() -> None:
        marks.append((peak_mb(), cpu_s(), time.perf_counter()))

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        nonlocal num_parts
        num_parts = len(parts)
        mark()
        found = list(track_all(parts))
        mark()
        return found

    track_all: Callable[[Sequence[Part]], Any] = partial(map, track_part)
    if over_ray:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        load_trackers = ray.remote(_load_trackers)
        ray.get([load_trackers.remote() for _ in range(2)])
        track_all = partial(ray_engine.run_parts, part_cpus=1)
    else:
        with tempfile.TemporaryDirectory() as warm:
            _publish(simulate(1 / 60, warm, *settings), lambda parts: map(track_part, parts), f"{warm}/out")
    out = f"{place}-out"
    shutil.rmtree(out, ignore_errors=True)
    mark()
    counts = _publish(chunks, run_parts, out)
    mark()
    files = [path for path in sorted(Path(out).rglob("*")) if path.is_file()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    num_tracklets = len(tables.read_one(Store(out), "tracklets", "v", ["tracklet_id"]))
    peaks, cpus_s, clock_s = (np.diff(column).tolist() for column in zip(*marks, strict=True))
    return {
        "hours": hours,
        "tracking": {"grown_mb": peaks[1], "cpu_s": cpus_s[1], "clock_s": clock_s[1]},
        "rest": {"grown_mb": peaks[0] + peaks[2], "cpu_s": cpus_s[0] + cpus_s[2], "clock_s": clock_s[0] + clock_s[2]},
        "baseline_mb": marks[0][0],
        "num_parts": num_parts,
        "num_tracklets": num_tracklets,
        "digest": digest,
    } | counts


def _publish(chunks: VideoChunks, run_parts: RunParts, out: str) -> dict[str, int]:
    timeline = read_timeline(chunks, FRAME_NS)
    return publish_chunks(chunks, timeline, run_parts, Store(out))


def _load_trackers() -> None:
    import pipeline.video.track  # noqa: F401

    time.sleep(3)  # so that each of two goes to a worker of its own


def apart(hours: float, place: Path, over_ray: bool, settings: Sequence[str]) -> dict[str, Any]:
    """Run `measure` in a fresh process."""
    command = [sys.executable, "-m", __spec__.name, "--one", str(hours), "--place", str(place)]
    command += [f"--set={setting}" for setting in settings] + (["--over-ray"] if over_ray else [])
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
    return json.loads(result.stdout.splitlines()[-1])


def lines(found: Sequence[dict[str, Any]], spread: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield "hours  tracklets  tracking, 1 core: CPU s, peak +MB   rest of the reduce: CPU s, peak +MB more"
    for one in found:
        tracking, rest = one["tracking"], one["rest"]
        yield (
            f"{one['hours']:5g}  {one['num_tracklets']:9d}  {tracking['cpu_s']:23.1f} {tracking['grown_mb']:10.1f}"
            f"   {rest['cpu_s']:25.1f} {rest['grown_mb']:10.1f}"
        )
    for one in spread:
        (alone,) = (each for each in found if each["hours"] == one["hours"])
        same = "the same bytes" if alone["digest"] == one["digest"] else "OTHER BYTES"
        clock_s, cpus_s = ([each["tracking"][name] for each in (alone, one)] for name in ("clock_s", "cpu_s"))
        yield (
            f"{one['hours']:g} h in {one['num_parts']} parts, tracking on one core and on two: {clock_s[0]:.0f} and "
            f"{clock_s[1]:.0f} s on the clock, {cpus_s[0]:.0f} and {cpus_s[1]:.0f} s of CPU; {same}"
        )
    if len(found) > 1:
        shortest, *_, longest = sorted(found, key=lambda one: one["hours"])

        def per_day(name: str) -> list[float]:
            hours = longest["hours"] - shortest["hours"]
            return [24 / hours * (longest[step][name] - shortest[step][name]) for step in ("tracking", "rest")]

        tracking_s, rest_s = per_day("cpu_s")
        yield (
            f"a day more, by the slope: {tracking_s / 60:.0f} min of one core to track, {rest_s / 60:.1f} min for the "
            f"rest, {sum(per_day('grown_mb')):.0f} MB"
        )


def main() -> None:
    """Print the tables, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="*", default=[1, 2, 3])
    parser.add_argument("--ray", type=float, nargs="*", default=[1, 2, 3])
    parser.add_argument("--place", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--over-ray", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, str(arguments.place), arguments.over_ray, arguments.settings)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.place or Path(folder)
        found, spread = [], []
        for hours in arguments.hours:
            at = place / f"{hours:g}h"
            simulate(hours, str(at), *arguments.settings)
            found.append(apart(hours, at, False, arguments.settings))
            if hours in arguments.ray:
                spread.append(apart(hours, at, True, arguments.settings))
            print(*lines(found, spread), sep="\n", flush=True)
            print()
            if len({one["digest"] for one in found + spread if one["hours"] == hours}) > 1:
                sys.exit("the tables of one core and of two differ")
    if arguments.json:
        arguments.json.write_text(json.dumps({"one core": found, "two cores": spread}, indent=1))


if __name__ == "__main__":
    main()
