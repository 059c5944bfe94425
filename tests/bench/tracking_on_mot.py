"""How well people are followed on the MOT sequences beside the repository: tracker alone and with our links.

    python -m tests.bench.tracking_on_mot [--config FILE …] [--set KEY=VALUE …] [--cache DIR] [--sweep] [--json FILE]

Decodes, detects and embeds every frame once (kept in --cache, which does not know the configuration: another detector
wants another folder), then suppresses, tracks, fills and links as the reduce does, every frame analysed and at
`observe.fps`. --sweep moves one knob at a time and prints the curve.

The truth of PETS09-S2L1 gives two people who leave the picture and come back within 5 s a new id; looked at, they are
the same woman in red and the same man in a leather jacket. We keep an id over such an absence by design, so that
the figures are given twice: against the truth as it is, and with these two pairs of ids put together ("returns").
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import Detections
from pipeline.config import Config, load
from pipeline.cores.fill import Knots, ShotFrames, intervals, rows_between
from pipeline.cores.link import Links, link, summarise
from pipeline.cores.plan import NS, analysed, exact
from pipeline.cores.suppress import suppress
from pipeline.datasets.mot import MotRows, read_mot
from pipeline.evaluation.tracking import Figures, Pair, score
from pipeline.media.decode import DecodedFrame, SpanDecoder
from pipeline.media.probe import probe
from pipeline.models.loading import Loader
from pipeline.models.tracker import Tracker
from pipeline.storage.blobs import fetch
from pipeline.weights import Registry
from tests.shared import SHARED

MOT = SHARED / "gt" / "mot"
RETURNS = {"PETS09-S2L1": {6: 10, 14: 15}}
TRACKERS = {"occluboost": 0.4, "bytetrack": 0.5}
"""track.min_score of each."""
SWEEPS: Mapping[str, Sequence[float]] = {
    "observe.detector.min_score": (0.1, 0.2, 0.3),
    "track.min_score": (0.3, 0.4, 0.5, 0.6),
    "track.memory_s": (1, 2, 3, 5),
    "track.duplicate_iou": (0.7, 0.85, 1),
    "track.min_frames": (1, 2, 3, 5, 8),
    "track.fill_gap_s": (0, 0.5, 1, 2),
    "identity.max_gap_s": (2, 3, 4, 5, 7, 10),
    "identity.gap_distance": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
    "identity.gap_motion": (0.1, 0.2, 0.3, 0.5),
    "identity.gap_motion_per_s": (0.1, 0.2, 0.3, 0.5),
}


@dataclass(frozen=True, slots=True)
class Observed:
    """A video's facts. times_ns: (F,). frames: (N,) of each detection, rising. boxes, scores, bodies: (N, …)."""

    times_ns: NDArray[np.int64]
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    bodies: NDArray[np.float32]


def observe(video: Path, config: Config) -> Observed:
    """Decode, detect and embed every frame of `video`."""
    config = config.on_device("cpu")
    loader = Loader(config, Registry.of(config, fetch))
    detector, embedder = loader.person_detector(), loader.body_embedder()
    assert embedder is not None, "observe.body.weights names none"
    decoder = SpanDecoder(
        lambda: str(video),
        probe(lambda: str(video)),
        0,
        -1,
        fps=0,
        cell_seconds=config.chunk.cell_seconds,
        thumbnail_px=config.observe.thumbnail_px,
        threads=1,
    )
    times_ns: list[int] = []
    columns: list[tuple[NDArray[Any], ...]] = []
    for decoded in _groups(decoder, detector.batch):
        pictures = [frame.picture for frame in decoded if frame.picture is not None]
        for frame, picture, found in zip(decoded, pictures, detector(pictures), strict=True):
            bodies = embedder(embedder.crops(picture, found.boxes))
            columns.append((np.full(len(found), len(times_ns)), found.boxes, found.scores, bodies))
            times_ns.append(frame.time_ns)
    return Observed(np.array(times_ns, np.int64), *(np.concatenate(column) for column in zip(*columns, strict=True)))


def _groups(frames: Iterable[DecodedFrame], size: int) -> Iterator[list[DecodedFrame]]:
    frames = iter(frames)
    while group := list(islice(frames, size)):
        yield group


def kept(video: Path, config: Config, cache: Path | None) -> Observed:
    """What was observed, from the cache where it is there."""
    path = cache / f"{video.stem}.npz" if cache else None
    if path and path.exists():
        with np.load(path) as arrays:
            return Observed(**arrays)
    observed = observe(video, config)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: getattr(observed, name) for name in Observed.__slots__})
    return observed


def track(observed: Observed, config: Config, fps: float) -> tuple[Knots, list[NDArray[np.float32]], ShotFrames]:
    """The tracklets of the whole video as one shot, and the mean body of each."""
    knobs = config.track
    times_s = [Fraction(int(time_ns), NS) for time_ns in observed.times_ns]
    looked_at = analysed(times_s, exact(config.chunk.cell_seconds), exact(fps))
    shot = ShotFrames(0, observed.times_ns, np.array(looked_at, np.int64))
    step_s = float(np.median(np.diff(observed.times_ns[shot.analysed]))) / 1e9
    tracker = Tracker(
        knobs.tracker, min_score=knobs.min_score, memory_s=knobs.memory_s, step_s=step_s, options=knobs.options
    )
    ids, places = [], []
    strong = observed.scores >= config.observe.detector.min_score
    for frame in shot.analysed:
        here = np.arange(*np.searchsorted(observed.frames, (frame, frame + 1)))
        here = here[strong[here]]
        here = here[suppress(Detections(observed.boxes[here], observed.scores[here]), knobs.duplicate_iou)]
        track_ids, indices = tracker.update(
            float(observed.times_ns[frame]) / 1e9, observed.boxes[here], observed.scores[here], observed.bodies[here]
        )
        ids.append(track_ids)
        places.append(here[indices])
    place = np.concatenate(places)
    _, tracklets, counts = np.unique(np.concatenate(ids), return_inverse=True, return_counts=True)
    long = counts[tracklets] >= knobs.min_frames
    place, tracklets = place[long], np.unique(tracklets[long], return_inverse=True)[1]
    bodies = [observed.bodies[place[tracklets == index]].mean(axis=0) for index in range(tracklets.max(initial=-1) + 1)]
    knots = Knots.ordered(tracklets, observed.frames[place], observed.boxes[place], observed.scores[place])
    return knots, [(body / np.linalg.norm(body)).astype(np.float32) for body in bodies], shot


def follow(observed: Observed, config: Config, fps: float) -> tuple[MotRows, MotRows, Links]:
    """The rows with tracklets for ids, the same with persons, and the links."""
    knots, bodies, shot = track(observed, config, fps)
    fill_ns = round(config.track.fill_gap_s * 1e9)
    rows = rows_between(knots, shot, fill_ns, shot.start, shot.end)
    tracklets = summarise(0, shot, knots, intervals(knots, shot, fill_ns), bodies, [None] * len(bodies))
    links, persons = link(tracklets, config.identity)
    frames = rows.frames + 1
    bare = MotRows(frames, rows.tracklets, rows.boxes, np.ones(len(frames), np.bool_))
    return bare, replace(bare, ids=persons[rows.tracklets]), links


def measure(seen: Mapping[str, Observed], config: Config, fps: float) -> dict[str, dict[str, Figures]]:
    """Scores of the bare tracker, of our links on top of it, and of these against the truth with the returns."""
    rows = {name: read_mot(MOT / name / "gt.txt") for name in seen}
    truth = {name: each[each.counts] for name, each in rows.items()}  # as TrackEval reads MOT15
    returned = {
        name: replace(each, ids=np.array([RETURNS.get(name, {}).get(i, i) for i in each.ids.tolist()]))
        for name, each in truth.items()
    }
    found = {name: follow(observed, config, fps) for name, observed in seen.items()}
    return {
        "bare": score({name: Pair.of_all_frames(found[name][0], truth[name]) for name in seen}),
        "linked": score({name: Pair.of_all_frames(found[name][1], truth[name]) for name in seen}),
        "returns": score({name: Pair.of_all_frames(found[name][1], returned[name]) for name in seen}),
    }


def line(scores: Figures) -> str:
    """One row of the table."""
    rates = " ".join(f"{100 * (scores[key] or 0):5.1f}" for key in ("hota", "deta", "assa", "idf1", "mota"))
    precise = f"{scores['precision']:.3f} {scores['recall']:.3f}"
    return f"{rates} {scores['id_switches']:4d}   {precise}  {scores['num_ids_found']:3d}/{scores['num_ids_there']}"


def main() -> None:
    """Print the tables, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = arguments.config or [Path(__file__).parents[1] / "conf" / "shared-weights.yaml"]
    config = load(files, arguments.settings)
    videos = sorted(MOT.glob("*/*.mp4"))
    seen = {video.stem: kept(video, config, arguments.cache) for video in videos}

    results = {}
    print(f"{'':46s} HOTA  DetA  AssA  IDF1  MOTA   sw   prec. recall  ids")
    for tracker, min_score in TRACKERS.items():
        own = [f"track.tracker={tracker}", f"track.min_score={min_score}"]
        chosen = load(files, [*own, *arguments.settings])
        for fps in (0.0, chosen.observe.fps):
            for kind, scores in measure(seen, chosen, fps).items():
                results[f"{tracker} {fps:g}/s {kind}"] = scores
                for name, figures in scores.items():
                    print(f"{tracker:10s} {fps:3g}/s {kind:8s} {name:18s} {line(figures)}", flush=True)
    if arguments.sweep:
        for key, values in SWEEPS.items():
            for value in values:
                moved = load(files, [*arguments.settings, f"{key}={value}"])
                for kind, scores in measure(seen, moved, moved.observe.fps).items():
                    results[f"{key}={value} {kind}"] = scores
                    print(f"{key}={value:<6g} {kind:8s}".ljust(44), line(scores["pooled"]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
