"""Measure the cost of linking many tracklets of one video on one core, by the shape of the video.

    python -m tests.bench.linking_at_scale [--sizes N …] [--shapes NAME …] [--config FILE …] [--profile]

Every case runs in a process of its own. seconds: time on one core, without making the tracklets. peak: resident
    memory of the process, and the growth during linking. --profile prints where the time goes.
"""

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import load
from pipeline.cores.likeness import MIN_DISTANCE
from pipeline.cores.link.linking import link
from pipeline.cores.link.tracklets import Tracklet

SIZES = (500, 1000, 2000, 5000)
FPS, ANALYSED_FPS = 25, 8
BODY_SIZE, FACE_SIZE = 512, 128
SHOT_S = (4.0, 30.0)
"""s. Shortest and longest shot of an edited video."""
STEADY = (-2.5, 0.6)
"""Mean and standard deviation of the logarithm of the cosine distance between a tracklet's first third and its last."""
MAX_PAUSE_S = 6.0
"""s between two tracklets of a person in a shot. It is more than `identity.max_gap_s`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of video.

    tracklets_per_person: mean number. A person who returns does so in any later shot.
    seconds: s. The longest tracklet.
    at_once: number of people in a shot of an edited video, and the least number of people in the video.
    one_shot_s: s. Length of a video from a camera that runs through; None for an edited video.
    common: share of the body embedding's square that everybody has in common.
    own: share of the body embedding's square that is the person's own. The rest is the tracklet's noise.
    faces: share of the tracklets that show a face.
    """

    tracklets_per_person: float = 8
    seconds: float = 12
    at_once: int = 6
    one_shot_s: float | None = None
    common: float = 0.5
    own: float = 0.38
    faces: float = 0.3


SHAPES = {
    "edited": Shape(),
    "talk show": Shape(tracklets_per_person=1000),
    "strangers": Shape(tracklets_per_person=1, own=0.45),
    "uniforms": Shape(common=0.95, own=0.02, faces=0),
    "street, a day": Shape(tracklets_per_person=2, one_shot_s=86_400),
    "street, an hour": Shape(tracklets_per_person=2, one_shot_s=3_600),
    "crowd, 5 minutes": Shape(tracklets_per_person=4, one_shot_s=300),
    "crowd in uniform": Shape(tracklets_per_person=4, one_shot_s=300, common=0.95, own=0.02, faces=0),
}


def make(count: int, shape: Shape, seed: int = 0) -> list[Tracklet]:
    """Return `count` tracklets, much as tracking a video of this shape gives. Tracklets of one person never overlap
    in time."""
    rng = np.random.default_rng(seed)
    people = max(shape.at_once, round(count / shape.tracklets_per_person))
    bodies, faces = _units(rng, people, BODY_SIZE), _units(rng, people, FACE_SIZE)
    everybody = _units(rng, 1, BODY_SIZE)[0]
    found: list[Tracklet] = []
    shot, shot_begin_s = 0, 0.0
    while len(found) < count:
        if shape.one_shot_s is None:
            shot_s, cast = float(rng.uniform(*SHOT_S)), rng.choice(people, shape.at_once, replace=False)
        else:
            shot_s, cast = shape.one_shot_s, rng.permutation(people)
        each = None if shape.one_shot_s is None else -(-count // people)
        for person in cast.tolist():
            begin_s = float(rng.uniform(0, shot_s * (0.5 if each is None else 1)))
            made = 0
            while len(found) < count and (begin_s < shot_s - 0.5 if each is None else made < each):
                end_s = begin_s + float(rng.uniform(0.5, shape.seconds))
                end_s = min(end_s, shot_s) if each is None else end_s
                noise = _units(rng, 1, BODY_SIZE)[0], _units(rng, 1, FACE_SIZE)[0]
                own = bodies[person] if shape.tracklets_per_person > 1 else _units(rng, 1, BODY_SIZE)[0]
                share = 1 - shape.common - shape.own
                body = np.sqrt(shape.common) * everybody + np.sqrt(shape.own) * own + np.sqrt(share) * noise[0]
                face = np.sqrt(0.75) * faces[person] + np.sqrt(0.25) * noise[1] if rng.random() < shape.faces else None
                span_s = shot_begin_s + begin_s, shot_begin_s + end_s
                found.append(_tracklet(rng, shot, span_s, _unit(body), None if face is None else _unit(face)))
                begin_s = end_s + float(rng.uniform(0.1, MAX_PAUSE_S))
                made += 1
        shot, shot_begin_s = shot + 1, shot_begin_s + shot_s
    return found


def _tracklet(
    rng: np.random.Generator,
    shot: int,
    span_s: tuple[float, float],
    body: NDArray[np.float32],
    face: NDArray[np.float32] | None,
) -> Tracklet:
    """Return a person who walks through a picture of 1920 px. One in three has a gap that was not filled."""
    first, end = round(span_s[0] * FPS), max(round(span_s[1] * FPS), round(span_s[0] * FPS) + 1)
    height = float(rng.uniform(100, 400))
    place, speed = rng.uniform(0, 1500, 2), rng.normal(0, 0.4 * height, 2) * (1, 0.2)
    times_s = np.arange(first / FPS, end / FPS, 1 / ANALYSED_FPS)
    centres = place + speed * (times_s - times_s[0])[:, None] + rng.normal(0, 0.01 * height, (len(times_s), 2))
    half = np.array([0.2, 0.5]) * height
    boxes = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
    times_ns = np.round(times_s * 1e9).astype(np.int64)
    head, tail = times_ns <= times_ns[0] + 10**9, times_ns >= times_ns[-1] - 10**9
    hole = (first + end) // 2
    intervals = [[first, hole], [hole + 30, end]] if rng.random() < 0.33 and end > hole + 31 else [[first, end]]
    spans = np.array(intervals, np.int64)
    steady = 1 - np.exp(rng.normal(*STEADY, size=2)).clip(MIN_DISTANCE, 1)
    ends = times_ns[head], boxes[head], times_ns[tail], boxes[tail]
    mean_box = boxes.mean(axis=0, dtype=np.float64)
    face_steadiness = float("nan") if face is None else float(steady[1])
    return Tracklet(shot, spans, *ends, body, face, boxes[0], mean_box, float(steady[0]), face_steadiness)


def _units(rng: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    vectors = rng.normal(size=(count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(name: str, count: int, files: list[Path], profile: bool) -> None:
    """Link one case in this process and print its row."""
    params = load(files, []).identity
    tracklets = make(count, SHAPES[name])
    link(tracklets[:50], params)  # the first call imports and compiles
    before_mb = _megabytes()
    profiler = cProfile.Profile()
    begun_s = time.process_time()
    links, persons = profiler.runcall(link, tracklets, params) if profile else link(tracklets, params)
    seconds = time.process_time() - begun_s
    row = f"{name:18s} {count:6d} {seconds:9.2f} {_megabytes():8.0f} {_megabytes() - before_mb:8.0f}"
    print(f"{row} {len(links):8d} {len(set(persons.tolist())):8d}", flush=True)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


def main() -> None:
    """Print a row for each shape and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--config", type=Path, action="append", default=[])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        run(arguments.shapes[0], arguments.sizes[0], arguments.config, arguments.profile)
        return
    print(f"{'shape':18s}      N   seconds  peak MB  on top     links  persons", flush=True)
    shared = [word for file in arguments.config for word in ("--config", str(file))]
    shared += ["--profile"] if arguments.profile else []
    for name in arguments.shapes:
        for size in arguments.sizes:
            case = ["--here", "--shapes", name, "--sizes", str(size), *shared]
            subprocess.run([sys.executable, "-m", "tests.bench.linking_at_scale", *case], check=True)


if __name__ == "__main__":
    main()
