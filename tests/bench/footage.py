"""Read the tracklets of a stored output with the box and the embedding of every detection, for benches of linking.

The output must have kept its working area (`biometrics.keep: true`). The tracker runs again, so the result follows
the present code, and no table of the output is used.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import items_of, unit_vectors
from pipeline.config import Config, digest, load, restored
from pipeline.cores.camera import Steady
from pipeline.cores.fill import Knots, ShotFrames, intervals
from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.tracklets import Tracklet, summarise
from pipeline.cores.place import Scenes
from pipeline.cores.purity import AppearanceLog
from pipeline.media.cuts import find_shots
from pipeline.planning.recipe import Recipe, priors
from pipeline.planning.relink import kept_chunks
from pipeline.storage import records, tables
from pipeline.storage.ledger import Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import BlockReader, TrackingResult
from pipeline.video.job import VideoChunks
from pipeline.video.parts import plan_parts, track_here
from pipeline.video.scenes import find_scenes
from pipeline.video.timeline import read_timeline
from pipeline.video.track import embedding_weights


@dataclass(frozen=True, slots=True)
class Footage:
    """One video: its tracklets, box by box.

    name: of the file, without its ending.
    size: width, height in px.
    times_ns: (F,) int64.
    analysed: (F,) bool.
    shots: half-open ranges of frames.
    scenes: the shots that show one place.
    steady: the camera motion.
    knots: the tracker's K boxes, ordered by tracklet, then frame. Tracklets count from 0 over all shots.
    vectors: (K, D) float32 unit embeddings, zero where a detection has none.
    shot_of: (T,) int64.
    fill_ns: longest gap over which boxes are filled.
    """

    name: str
    size: tuple[int, int]
    times_ns: NDArray[np.int64]
    analysed: NDArray[np.bool_]
    shots: tuple[tuple[int, int], ...]
    scenes: Scenes
    steady: Steady
    knots: Knots
    vectors: NDArray[np.float32]
    shot_of: NDArray[np.int64]
    fill_ns: int

    def weighted(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of the boxes in these places, with the weights that the tracker gives them."""
        return self.vectors[places] * embedding_weights(self.knots.boxes[places], self.size)[:, None]


@dataclass(frozen=True, slots=True)
class Archive:
    """The videos of an output, with the configuration and the priors of their recipe."""

    config: Config
    priors: Likenesses
    videos: tuple[Footage, ...]


def read_archive(output: Path, cache: Path | None = None) -> Archive:
    """Return all videos of an output. `cache` keeps the result of the tracker, whatever the code says later, as long as
    the configuration has the same knobs."""
    kept = cache / f"{output.name}-{digest(load().plain())}.pickle" if cache else None
    if kept and kept.exists():
        return pickle.loads(kept.read_bytes())
    store = Store(str(output))
    rows = [row for row in tables.read(store, "videos").to_pylist() if row["status"] == "done"]
    names = {row["video_id"]: Path(row["uri"]).stem for row in rows}
    (config_id,) = {row["config_id"] for row in rows}
    recipe = Recipe.from_json(records.read_recipe(store, config_id) or {})
    config = restored(recipe.knobs, str(output))
    chunks = kept_chunks(store, recipe)
    jobs = [
        VideoChunks(
            video_id=video_id,
            chunks=chunks[video_id],
            csv_names=(),
            ledger=Ledger(store, recipe.keys),
            config=config,
            spaces=recipe.spaces,
            priors=priors(recipe.likenesses),
        )
        for video_id in sorted(names, key=names.__getitem__)
        if video_id in chunks
    ]
    archive = Archive(config, priors(recipe.likenesses), tuple(read_footage(job, names[job.video_id]) for job in jobs))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(archive))
    return archive


def read_footage(job: VideoChunks, name: str) -> Footage:
    """Track one video and return its tracklets."""
    timeline = read_timeline(job, 40_000_000)
    cuts = job.config.cuts
    shots = find_shots(
        timeline.times_ns,
        *timeline.differences.T,
        pixels=timeline.thumbnail_pixels,
        threshold=cuts.threshold,
        min_shot_s=cuts.min_shot_s,
    )
    tracked = TrackingResult.joined(list(track_here(plan_parts(job, timeline, shots))))
    reader = BlockReader(job.ledger, tracked.blocks)
    boxes = reader.between(0, len(timeline))
    scenes = find_scenes(job, timeline, shots, reader)
    of = tracked.tracklets(boxes)
    boxes, of = boxes[of >= 0], of[of >= 0]
    order = np.lexsort((boxes["frame"], of))
    boxes, of = boxes[order], of[order]
    vectors = np.zeros((len(boxes), 0), np.float32)
    for number, span in enumerate(job.chunks):
        table = job.ledger.observed(job.video_id, span, ["detections"])
        embeddings = unit_vectors(items_of(table, "detections"))
        here = np.flatnonzero(boxes["chunk"] == number)
        if embeddings is not None and len(here):
            if not vectors.shape[1]:
                vectors = np.zeros((len(boxes), embeddings.shape[1]), np.float32)
            vectors[here] = embeddings[boxes["detection"][here]]
    job.ledger.clear_tracked(job.video_id)
    return Footage(
        name,
        (timeline.width, timeline.height),
        timeline.times_ns,
        timeline.analysed,
        tuple(shots),
        scenes,
        timeline.steady,
        Knots(of, boxes["frame"].copy(), boxes["box"].copy(), boxes["score"].copy()),
        vectors,
        tracked.shots,
        round(job.config.track.fill_gap_s * 1e9),
    )


def summaries(footage: Footage, labels: NDArray[np.int64], shot_of: Mapping[int, int]) -> list[Tracklet]:
    """Return the linker's summary of every tracklet, in rising order of its label.

    labels: (K,) int64. The tracklet of each box of `footage.knots`; -1 drops the box.
    shot_of: the shot of each label. A label stays inside one shot of the footage.
    """
    results: dict[int, Tracklet] = {}
    starts = np.array([start for start, _ in footage.shots])
    order = np.lexsort((footage.knots.frames, labels))
    order = order[labels[order] >= 0]
    shot_of_box = np.searchsorted(starts, footage.knots.frames[order], side="right") - 1
    for index, (start, end) in enumerate(footage.shots):
        places = order[shot_of_box == index]
        if not len(places):
            continue
        shot = ShotFrames(start, footage.times_ns[start:end], start + np.flatnonzero(footage.analysed[start:end]))
        names, numbers = np.unique(labels[places], return_inverse=True)
        frames, boxes, vectors = footage.knots.frames[places], footage.knots.boxes[places], footage.weighted(places)
        knots = Knots(numbers, frames, boxes, footage.knots.scores[places])
        bodies: list[NDArray[np.float32] | None] = []
        steadiness = np.full((len(names), 2), np.nan)
        for number in range(len(names)):
            first, stop = np.searchsorted(numbers, (number, number + 1)).tolist()
            log = AppearanceLog()
            for place in range(first, stop):
                vector = vectors[place]
                if vector.any():
                    log.add(int(frames[place]), int(footage.times_ns[frames[place]]), vector)
            parts = log.parts(None)
            bodies.append((parts[0].total / np.linalg.norm(parts[0].total)).astype(np.float32) if parts else None)
            steadiness[number, 0] = parts[0].steadiness if parts else np.nan
        occupied = intervals(knots, shot, footage.fill_ns)
        none = [None] * len(names)
        steady_boxes = footage.steady.boxes(frames, boxes)
        made = summarise(index, shot, knots, occupied, bodies, none, steadiness, None, steady_boxes, footage.size[1])
        results |= dict(zip(names.tolist(), made, strict=True))
    return [_in_shot(results[label], shot_of[label]) for label in sorted(results)]


def _in_shot(tracklet: Tracklet, shot: int) -> Tracklet:
    return tracklet if tracklet.shot == shot else replace(tracklet, shot=shot)
