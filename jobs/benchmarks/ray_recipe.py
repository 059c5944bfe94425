"""The usual recipe of Ray Data for this work, over the same models: frames as rows, map_batches for each model, and a
groupby over the videos.

1. A task decodes a video and yields its analysed frames as rows with their pixels.
2. A pool of actors detects and embeds people in batches of frames.
3. A second pool cuts the people out, finds the face of each, and judges it. The pixels leave the rows after that.
4. `groupby` collects the rows of each video, which are tracked in order. Each ID gets the mean of its estimates.
"""

import os
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data

from jobs.benchmarks.cpu_clock import family_clock
from jobs.benchmarks.decoders import pictures_of
from jobs.benchmarks.side_by_side import Spent
from pipeline.arrays import Detections
from pipeline.chunk.aligned import ALIGNED_PX
from pipeline.config import Config
from pipeline.cores.candidates import is_worth_a_crop
from pipeline.cores.plan import exact, slot_of
from pipeline.flow import cluster
from pipeline.media.faces import align_face
from pipeline.media.pictures import cut_out
from pipeline.weights import Registry

BATCH = 16
POLL_S, READY = 0.05, "ready-*"
NOBODY = -1
NUM_POOLS = 2


@dataclass(frozen=True, slots=True)
class RecipeRun:
    """A run of the recipe.

    spent: from the moment at which all models are loaded to the last table.
    num_frames: analysed frames.
    num_persons: IDs.
    """

    spent: Spent
    num_frames: int
    num_persons: int


def run_recipe(videos: Sequence[Path], fps: float, config: Config, registry: Registry, folder: Path) -> RecipeRun:
    """Process videos in the way of the recipe, on the Ray that runs.

    fps: frames per second of the videos.
    folder: an empty folder for signals and for the tables.
    """
    clock = family_clock()
    go = _Signal(folder, NUM_POOLS)
    on_actors = {"batch_format": "numpy", "concurrency": 1, "num_cpus": 0.5, "num_gpus": config.run.observe.gpus}
    if config.compute.device == "cpu":
        on_actors["num_gpus"] = 0
    elif on_actors["num_gpus"] == "auto":
        on_actors["num_gpus"] = 0.5
    frames: Any = partial(_frames, fps=fps, config=config, go=go)
    track: Any = partial(_track, config=config, fps=fps)
    parts: dict[str, Any] = {"fn_constructor_args": (config, registry, folder)}
    dataset = (
        ray.data.from_items([{"video": str(video)} for video in videos])
        .map_batches(frames, batch_size=1, batch_format="numpy", num_cpus=0.5)
        .map_batches(_Detect, batch_size=BATCH, **on_actors, **parts)
        .map_batches(_Judge, batch_size=BATCH, **on_actors, **parts)
        .drop_columns(["picture"])
        .groupby("video")
        .map_groups(track, batch_format="numpy")
    )
    # The execution blocks, so a thread reads the clocks when the models are loaded.
    started: list[tuple[float, float]] = []
    watcher = threading.Thread(target=lambda: started.append((go.wait(), clock())), daemon=True)
    watcher.start()
    dataset.write_parquet(str(folder / "tables"))
    watcher.join()
    spent = Spent(time.perf_counter() - started[0][0], clock() - started[0][1])
    persons = ray.data.read_parquet(str(folder / "tables")).to_pandas()
    num_frames = persons.groupby("video")["num_frames"].first().sum()
    return RecipeRun(spent, int(num_frames), int((persons["id"] != NOBODY).sum()))


@dataclass(frozen=True, slots=True)
class _Signal:
    """Tells when the actors of all pools have loaded their models: each leaves a file."""

    folder: Path
    num_pools: int

    def wait(self) -> float:
        while len({file.name.split("-")[1] for file in self.folder.glob(READY)}) < self.num_pools:
            time.sleep(POLL_S)
        return time.perf_counter()


def _frames(batch: dict[str, Any], fps: float, config: Config, go: _Signal) -> Iterator[dict[str, Any]]:
    """Decode a video, and yield its analysed frames in batches."""
    go.wait()
    video = batch["video"][0]
    slot: tuple[int, int] | None = None
    rows: list[tuple[float, Any]] = []
    for number, picture in enumerate(pictures_of(video)):
        time_s = exact(number) / exact(fps)
        before, slot = slot, (int(time_s), slot_of(time_s, exact(1), exact(config.observe.fps)))
        if slot != before:
            rows.append((float(time_s), picture))
        if len(rows) == BATCH:
            yield _batch(video, rows)
            rows = []
    if rows:
        yield _batch(video, rows)


def _batch(video: str, rows: Sequence[tuple[float, Any]]) -> dict[str, Any]:
    return {
        "video": np.array([video] * len(rows)),
        "time_s": np.array([time_s for time_s, _ in rows]),
        "picture": np.stack([picture for _, picture in rows]),
    }


class _Detect:
    """Detects and embeds the people in batches of frames."""

    def __init__(self, config: Config, registry: Registry, folder: Path) -> None:
        from pipeline.models.loading import Loader

        load = Loader(config, registry)
        self._detector, self._embedder = load.person_detector(), load.body_embedder()
        _ready(folder, "detect")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pictures = list(batch["picture"])
        people = self._detector(pictures)
        vectors: list[Any] = [None] * len(people)
        if self._embedder is not None:
            crops = [
                self._embedder.crops(picture, found.boxes) for picture, found in zip(pictures, people, strict=True)
            ]
            embedded = self._embedder(np.concatenate(crops))
            vectors = np.split(embedded, np.cumsum([len(crop) for crop in crops])[:-1])
        return {**batch, "people": _packed([(p.boxes, p.scores, v) for p, v in zip(people, vectors, strict=True)])}


class _Judge:
    """Finds the face of every person in batches of frames, and judges it."""

    def __init__(self, config: Config, registry: Registry, folder: Path) -> None:
        from pipeline.models.loading import Loader

        load = Loader(config, registry)
        self._config = config
        self._detector, self._estimator = load.face_detector(), load.estimator()
        _ready(folder, "judge")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        crops, places = [], []
        for row, (picture, packed) in enumerate(zip(batch["picture"], batch["people"], strict=True)):
            boxes, scores, _ = pickle.loads(packed)
            for person in np.flatnonzero(is_worth_a_crop(boxes, scores, self._config.candidates)):
                crops.append(cut_out(picture, boxes[person].astype(int).tolist()))
                places.append((row, person))
        faces, owners = [], []
        for crop, place, found in zip(crops, places, self._detector(crops) if crops else [], strict=True):
            if len(found):
                faces.append(align_face(crop, found.landmarks[0], ALIGNED_PX))
                owners.append(place)
        judged: list[dict[int, tuple[float, float]]] = [{} for _ in batch["people"]]
        if faces and self._estimator is not None:
            estimates = self._estimator(np.stack(faces))
            for (row, person), age, prob in zip(owners, estimates.ages, estimates.female_probs, strict=True):
                judged[row][int(person)] = float(age), float(prob)
        return {**batch, "judged": _packed(judged)}


def _track(group: dict[str, Any], config: Config, fps: float) -> dict[str, Any]:
    """Track the people of one video in order of time, and return a row for each ID, or one for NOBODY."""
    from pipeline.models.tracker import Tracker

    track = config.track
    step_s = 1 / (config.observe.fps or fps)
    tracker = Tracker(
        track.tracker, min_score=track.min_score, memory_s=track.memory_s, step_s=step_s, options=track.options
    )
    ages: dict[int, list[float]] = defaultdict(list)
    probs: dict[int, list[float]] = defaultdict(list)
    seen: dict[int, int] = defaultdict(int)
    for place in np.argsort(group["time_s"]):
        boxes, scores, vectors = pickle.loads(group["people"][place])
        people = Detections(boxes, scores)
        ids, indices = tracker.update(float(group["time_s"][place]), people.boxes, people.scores, vectors)
        judged = pickle.loads(group["judged"][place])
        for number, index in zip(ids.tolist(), indices.tolist(), strict=True):
            seen[number] += 1
            if index in judged:
                ages[number].append(judged[index][0])
                probs[number].append(judged[index][1])
    numbers = sorted(seen) or [NOBODY]  # Ray writes no file for a video without a row
    return {
        "video": np.array([group["video"][0]] * len(numbers)),
        "id": np.array(numbers, np.int64),
        "age": np.array([np.mean(ages[number]) if ages[number] else np.nan for number in numbers], np.float64),
        "female_prob": np.array([np.mean(probs[n]) if probs[n] else np.nan for n in numbers], np.float64),
        "num_frames": np.full(len(numbers), len(group["time_s"]), np.int64),
    }


def _packed(values: Sequence[Any]) -> Any:
    packed = np.empty(len(values), object)
    packed[:] = [pickle.dumps(value) for value in values]
    return packed


def _ready(folder: Path, pool: str) -> None:
    (folder / f"ready-{pool}-{os.getpid()}").touch()


@dataclass(slots=True)
class ObjectStore:
    """The use of Ray's object store while it is watched.

    peak_bytes: most bytes in use at a time, of those that were sampled.
    """

    peak_bytes: float = 0.0
    _end: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Sample the use until the end."""
        while not self._end.wait(POLL_S):
            with suppress(Exception):  # Ray starts or stops
                total = ray.cluster_resources().get("object_store_memory", 0.0)
                free = ray.available_resources().get("object_store_memory", total)
                self.peak_bytes = max(self.peak_bytes, total - free)


@contextmanager
def watched_object_store() -> Iterator[ObjectStore]:
    """Yield the use of the object store during the block."""
    store = ObjectStore()
    thread = threading.Thread(target=store.watch, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store._end.set()
        thread.join()


@contextmanager
def running_ray(config: Config) -> Iterator[None]:
    """Run Ray during the block, as `process` starts it."""
    cluster.start_ray(config)
    try:
        yield
    finally:
        cluster.stop_ray()
