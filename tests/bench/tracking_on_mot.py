"""Measure how well people are tracked on the MOT sequences beside the repository: by the tracker alone and with our
    links.

    python -m tests.bench.tracking_on_mot [--config FILE …] [--set KEY=VALUE …] [--trackers NAME …] [--cache DIR]
        [--sweep] [--json FILE]

It decodes, detects and embeds every frame once, and keeps the result in --cache. The cache does not know the
configuration, so that another detector needs another folder. The result is then reduced, once with every frame
analysed and once at `observe.fps`. "bare" are the tracker's own ids. "ms" are CPU milliseconds of the tracker alone
per analysed frame. --sweep varies one knob at a time, and `track.min_score` of every tracker, and prints the curve.

Of BoxMOT's other trackers, StrongSORT and SAM2MOT need pictures, which are gone when people are tracked.

The truth of PETS09-S2L1 gives a new id to two people who leave the picture and come back within 5 s. Inspected by
eye, they are the same woman in red and the same man in a leather jacket. We keep an id over such an absence by
design. Seven people come back nine times altogether, mostly later (SAME_ID of identity_over_cuts). The figures are
therefore given three times: against the truth as it is, with these two pairs of ids put together ("returns"), and with
the ids of all seven put together ("all returns").
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import Config, load
from pipeline.cores.plan import NS, analysed, cell_of, exact
from pipeline.corpora.mot import MotRows, read_mot
from pipeline.evaluation.tracking import Figures, Pair, score
from pipeline.media.decode import DecodedFrame, SpanDecoder
from pipeline.media.probing import probe
from pipeline.models.loading import Loader
from pipeline.models.tracker import Tracker
from pipeline.planning import recipe
from pipeline.storage import tables
from pipeline.storage.blobs import fetch
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.store import Store
from pipeline.video.job import VideoChunks
from pipeline.video.reduce import publish_chunks
from pipeline.video.timeline import read_timeline
from pipeline.video.track import track_part
from pipeline.weights import Registry
from tests.bench.identity_over_cuts import SAME_ID
from tests.shared import SHARED

MOT = SHARED / "gt" / "mot"
RETURNS = {"PETS09-S2L1": {6: 10, 14: 15}}
TRACKERS = {
    "occluboost": 0.4,
    "bytetrack": 0.5,
    "boosttrack": 0.4,
    "botsort": 0.4,
    "hybridsort": 0.4,
    "deepocsort": 0.3,
    "ocsort": 0.3,
    "sfsort": 0.6,
}
"""track.min_score of each tracker. The first two are as in the profiles. The others are where MOTA is best
(--sweep). MOTA depends on people more than on ids, so that neither a tracker's luck with ids nor our links influence
the choice."""
WARM_UPDATES = 20
"""Number of first updates of a video that are not timed."""
SWEEPS: Mapping[str, Sequence[float]] = {
    "observe.detector.min_score": (0.1, 0.2, 0.3),
    "track.min_score": (0.3, 0.4, 0.5, 0.6, 0.7),
    "track.memory_s": (1, 2, 3, 5),
    "track.duplicate_iou": (0.7, 0.85, 1),
    "track.min_frames": (1, 2, 3, 5, 8),
    "track.fill_gap_s": (0, 0.5, 1, 2),
    "track.split": (True, False),
    "identity.wrong_joins": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "identity.max_gap_s": (2, 3, 4, 5, 7, 10),
    "identity.gap_motion": (0.1, 0.2, 0.3, 0.5),
    "identity.gap_motion_per_s": (0.1, 0.2, 0.3, 0.5),
}


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations of a video of F frames with N detections.

    times_ns: (F,) int64 ns.
    frames: (N,) int64. Frame of each detection, rising.
    boxes: (N, 4) float32 xyxy, px.
    scores: (N,) float32.
    bodies: (N, D) float32 body embeddings.
    """

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
    """Return the observations of `video`, from the cache if they are there."""
    path = cache / f"{video.stem}.npz" if cache else None
    if path and path.exists():
        with np.load(path) as arrays:
            return Observed(**arrays)
    observed = observe(video, config)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: getattr(observed, name) for name in Observed.__slots__})
    return observed


def follow(
    observed: Observed,
    size: tuple[int, int],
    config: Config,
    fps: float,
    motions: Sequence[Sequence[float] | None] | None = None,
) -> tuple[MotRows, NDArray[np.int64], list[float]]:
    """Reduce a video. Return its rows by person, their tracklets, and the ms of each update.

    size: (width, height) px.
    fps: frames per second that are analysed.
    motions: (F,) motions of the camera, as in rows.FRAME.
    """
    registry = Registry.of(config.on_device("cpu"), fetch)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        ledger = Ledger(store, Keys("o", "e"))
        ledger.commit("v", (0, -1), *_chunk(observed, size, config, fps, motions))
        job = VideoChunks(
            video_id="v",
            chunks=((0, -1),),
            csv_names=(),
            ledger=ledger,
            config=config,
            spaces=recipe.spaces(config, registry),
            priors=recipe.priors(recipe.registry_likenesses(config, registry)),
        )
        timeline = read_timeline(job, int(np.diff(observed.times_ns)[-1]))
        with timed_updates() as update_ms:
            publish_chunks(job, timeline, lambda parts: [track_part(part) for part in parts], store)
        table = tables.read_one(store, "detections", "v")
    corner, sides = (
        np.stack([table[f"bb_{name}"].to_numpy() for name in names], axis=1)
        for names in (("xmin", "ymin"), ("width", "height"))
    )
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    ids, counts = table["person_id"].to_numpy(), np.ones(len(table), np.bool_)
    return MotRows(table["frame_num"].to_numpy(), ids, boxes, counts), table["tracklet_id"].to_numpy(), update_ms


def _chunk(
    observed: Observed,
    size: tuple[int, int],
    config: Config,
    fps: float,
    motions: Sequence[Sequence[float] | None] | None,
) -> tuple[pa.Table, pa.Table]:
    """Return the whole video as one chunk without a cut and without faces."""
    times_s = [Fraction(int(time_ns), NS) for time_ns in observed.times_ns]
    cell_s = exact(config.chunk.cell_seconds)
    looked_at = set(analysed(times_s, cell_s, exact(fps)))
    frames = [
        {
            "time_ns": int(time_s * NS),
            "cell": cell_of(time_s, cell_s),
            "analysed": number in looked_at,
            "motion": motions[number] if motions is not None else None,
        }
        for number, time_s in enumerate(times_s)
    ]
    own = np.isin(observed.frames, list(looked_at)) & (observed.scores >= config.observe.detector.min_score)
    vectors = Quantised.of(observed.bodies[own])
    detections = [
        {"frame": frame, "box": box, "score": score_, "bodiless": False, "embedding": {"codes": code, "scale": scale}}
        for frame, box, score_, code, scale in zip(
            observed.frames[own].tolist(),
            observed.boxes[own].tolist(),
            observed.scores[own].tolist(),
            map(bytes, vectors.codes),
            vectors.scales.tolist(),
            strict=True,
        )
    ]
    head = {"warning": None, "width": size[0], "height": size[1], "thumbnail_pixels": 1}
    return (
        pa.Table.from_pylist([head | {"frames": frames, "detections": detections}], schema=rows.OBSERVED),
        pa.Table.from_pylist([{"faces": [], "aligned": None}], schema=rows.ENRICHED),
    )


@contextmanager
def timed_updates() -> Iterator[list[float]]:
    """Yield a list that fills with the CPU milliseconds of each update of the tracker, without the first
    WARM_UPDATES."""
    found: list[float] = []
    plainly = Tracker.update

    def update(*arguments: Any) -> Any:
        begun_s = time.thread_time()
        result = plainly(*arguments)
        found.append(1e3 * (time.thread_time() - begun_s))
        return result

    with patch.object(Tracker, "update", update):
        yield found
    del found[:WARM_UPDATES]


def of_tracker_alone(config: Config) -> Config:
    """Return a configuration that keeps the tracker's own ids: its tracklets are not divided."""
    return config.model_copy(update={"track": config.track.model_copy(update={"split": False})})


def measure(seen: Mapping[str, Observed], config: Config, fps: float) -> dict[str, dict[str, Figures]]:
    """Return scores of the bare tracker and with our links, against the truth and against the truth with the
    returns, and with all returns.

    The pooled scores of the bare tracker also have its `ms`.
    """
    truth = {name: counted(read_mot(MOT / name / "gt.txt")) for name in seen}  # as TrackEval reads MOT15
    returned, all_returned = (
        {
            name: replace(each, ids=np.array([same.get(name, {}).get(i, i) for i in each.ids.tolist()]))
            for name, each in truth.items()
        }
        for same in (RETURNS, SAME_ID)
    )
    sizes = {name: size_of(MOT / name / f"{name}.mp4") for name in seen}
    alone = {name: follow(each, sizes[name], of_tracker_alone(config), fps) for name, each in seen.items()}
    results = {
        "bare": {name: replace(found, ids=tracklets) for name, (found, tracklets, _) in alone.items()},
        "linked": {name: follow(each, sizes[name], config, fps)[0] for name, each in seen.items()},
    }
    scores = {
        f"{kind}{suffix}": score({name: Pair.of_all_frames(each[name], there[name]) for name in seen})
        for suffix, there in (("", truth), (", returns", returned), (", all returns", all_returned))
        for kind, each in results.items()
    }
    scores["bare"]["pooled"]["ms"] = round(float(np.mean([ms for *_, each in alone.values() for ms in each])), 2)
    return scores


def counted(truth: MotRows) -> MotRows:
    return truth[truth.counts]


def size_of(video: Path) -> tuple[int, int]:
    probed = probe(lambda: str(video))
    return probed.width, probed.height


def line(scores: Figures) -> str:
    """Return one row of the table."""
    rates = " ".join(f"{100 * (scores[key] or 0):5.1f}" for key in ("hota", "deta", "assa", "idf1", "mota"))
    precise = f"{scores['precision']:.3f} {scores['recall']:.3f}"
    people = f"{scores['num_ids_found']:3d}/{scores['num_ids_there']}"
    return f"{rates} {scores['id_switches']:4d}   {precise}  {people}  {scores.get('ms', '')}"


def main() -> None:
    """Print the tables, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--trackers", nargs="+", choices=TRACKERS, default=list(TRACKERS))
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
    print(f"{'':53s} HOTA  DetA  AssA  IDF1  MOTA   sw   prec. recall  ids    ms")
    for tracker in arguments.trackers:
        own = [f"track.tracker={tracker}", f"track.min_score={TRACKERS[tracker]}"]
        chosen = load(files, [*own, *arguments.settings])
        for fps in (0.0, chosen.observe.fps):
            for kind, scores in measure(seen, chosen, fps).items():
                results[f"{tracker} {fps:g}/s {kind}"] = scores
                for name, figures in scores.items():
                    print(f"{tracker:10s} {fps:3g}/s {kind:15s} {name:18s} {line(figures)}", flush=True)
        curves = SWEEPS if tracker == config.track.tracker else {"track.min_score": SWEEPS["track.min_score"]}
        moves = (
            [f"{key}={json.dumps(value)}" for key, values in curves.items() for value in values]
            if arguments.sweep
            else []
        )
        for move in moves:
            moved = load(files, [*own, *arguments.settings, move])
            for kind, scores in measure(seen, moved, moved.observe.fps).items():
                results[f"{tracker} {move} {kind}"] = scores
                print(f"{tracker:10s} {move} {kind}".ljust(52), line(scores["pooled"]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
