"""Small examples with a known truth: the durable chunks of simulated videos."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import Config, load
from pipeline.cores.likeness import WIDE
from pipeline.cores.plan import slot_of
from pipeline.media.probe import Probe
from pipeline.media.warnings import DAMAGED
from pipeline.planning.planner import WantedTables
from pipeline.planning.recipe import REDUCE_REVISION, Recipe, reduced_id
from pipeline.storage import records, tables
from pipeline.storage.ledger import ChunkSpan, Keys, Ledger
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.video.job import VideoJob
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from pipeline.weights import Registry

WIDTH, HEIGHT, PIXELS = 640, 480, 1000
FPS = 25


@dataclass(frozen=True, slots=True)
class Walker:
    """A person who walks to the right.

    start_s: s. The person is seen from then on.
    end_s: s. The person is seen before that time.
    x: px. Left edge of the box at start_s.
    speed: px/s to the right.
    y: px. Upper edge of the box.
    look: number of the appearance. Equal numbers look the same, 1.3 looks rather like 1 and a bit like 2; None:
        there is no embedding.
    hidden: spans of s in which the person is not seen.
    age: years, estimated for every face; None: no face. There is one face per second.
    restored_age: years, estimated for the face of every second cell, which is restored; None: no face is restored.
    age_lean: of the interval of every face.
    body_age: years, estimated for the body of every second without a face; None: bodies are not judged.
    female_prob: 0..1, estimated for every face and body.
    face: number of the appearance for the face embedding, as in `look`.
    weak: spans of s in which the detector is unsure.
    sure: score of the detector otherwise.
    """

    start_s: float
    end_s: float
    x: float
    speed: float = 30.0
    y: float = 100.0
    look: float | None = 0
    hidden: tuple[tuple[float, float], ...] = ()
    age: float | None = None
    restored_age: float | None = None
    age_lean: float | None = None
    body_age: float | None = None
    female_prob: float = 0.9
    face: float | None = None
    weak: tuple[tuple[float, float], ...] = ()
    sure: float = 0.9

    def box(self, time_s: float, camera_x: float = 0) -> list[float] | None:
        """Return the box that a camera sees after moving `camera_x` px to the right, or None."""
        if not self.start_s <= time_s < self.end_s or any(a <= time_s < b for a, b in self.hidden):
            return None
        x = round(self.x + self.speed * (time_s - self.start_s) - camera_x, 1)
        return [x, self.y, x + 60, self.y + 180] if 0 <= x <= WIDTH - 60 else None

    def score(self, time_s: float) -> float:
        return 0.3 if any(a <= time_s < b for a, b in self.weak) else self.sure


@dataclass(frozen=True, slots=True)
class Film:
    """A simulated video.

    duration_s: s.
    walkers: the people in it.
    cuts: s. Times of hard cuts.
    shift_ns: ns. Delay of odd frames, for variable frame rates.
    seed: of the noise of embeddings.
    fps: frames per second.
    analysed_fps: frames per second that the detector sees.
    holes: spans of s without a frame. Time 0 always has one.
    damaged: cells with an error from the decoder.
    strangers: s. Times of faces without a body.
    swing_px: px. How far the camera pans to the right and to the left, every 2 s.
    places: sketches of the place in the analysed frames, one for each part between cuts; empty: no sketches.
    """

    duration_s: float
    walkers: Sequence[Walker]
    cuts: Sequence[float] = ()
    shift_ns: int = 0
    seed: int = 0
    fps: int | Fraction = FPS
    analysed_fps: int = 8
    holes: Sequence[tuple[float, float]] = ()
    damaged: Sequence[int] = ()
    strangers: Sequence[float] = ()
    swing_px: float = 0
    places: Sequence[bytes] = ()

    def times_ns(self) -> list[int]:
        times = [
            round(i * 10**9 / Fraction(self.fps)) + (self.shift_ns if i % 2 else 0)
            for i in range(round(self.duration_s * self.fps))
        ]
        return [t for t in times if not t or not any(a * 10**9 <= t < b * 10**9 for a, b in self.holes)]

    def camera_x(self, time_ns: int) -> float:
        return self.swing_px * math.sin(math.pi * time_ns / 1e9)

    def frames(self) -> list[dict[str, Any]]:
        frames: list[dict[str, Any]] = []
        looked_at_ns = 0
        previous: tuple[int, int] | None = None
        times_ns = self.times_ns()
        cuts_ns = [Fraction(str(cut)) * 10**9 for cut in self.cuts]
        for time_ns, following_ns in pairwise([*times_ns, times_ns[-1] + 1] if times_ns else []):
            time_s = Fraction(time_ns, 10**9)
            slot = (int(time_s), slot_of(time_s, Fraction(1), Fraction(self.analysed_fps)))
            cut = any(time_ns < cut_ns <= following_ns for cut_ns in cuts_ns)
            frames.append(
                {"time_ns": time_ns, "cell": slot[0], "analysed": slot != previous}
                | dict.fromkeys(("hue", "saturation", "lightness"), (90 if cut else 2) * PIXELS)
            )
            if slot != previous and self.places:
                frames[-1]["place"] = self.places[sum(time_ns >= cut_ns for cut_ns in cuts_ns)]
            if slot != previous:
                step = self.camera_x(looked_at_ns) - self.camera_x(time_ns)
                if len(frames) > 1 and step:
                    frames[-2]["motion"] = [1.0, 0.0, step, 0.0]
                looked_at_ns = time_ns
            previous = slot
        if frames:
            frames[-1] |= dict.fromkeys(("hue", "saturation", "lightness"))
        return frames

    def vector(self, look: float, number: int) -> dict[str, Any]:
        """Return an embedding near that of `look`. The noise depends on the detection alone."""
        return _vector(self.seed, look, number)


@lru_cache(maxsize=1 << 14)
def _vector(seed: int, look: float, number: int) -> dict[str, Any]:
    whole, share = int(look), look - int(look)
    centre = (1 - share) * _centre(whole) + share * _centre(whole + 1)
    noise = np.random.default_rng((seed, whole, number)).normal(size=32) * 0.15
    quantised = Quantised.of((centre + noise).astype(np.float32)[None])
    return {"codes": quantised.codes[0].tobytes(), "scale": float(quantised.scales[0])}


@cache
def _centre(look: int) -> NDArray[np.float64]:
    return np.random.default_rng(1000 + look).normal(size=32)


def registry() -> Registry:
    """Return a registry without models, because none is asked for."""
    return Registry({}, cache=Path("nowhere"), fetch=lambda _: iter(()))


@cache
def configured(*settings: str) -> Config:
    return load(settings=settings).on_device("cpu")


def job(film: Film, borders: Sequence[int], place: str, *settings: str, video_id: str = "v") -> VideoJob:
    """Make the chunks of `film` durable at `place`, cut at the cells `borders`. Return the job that reduces them."""
    config = configured(*settings)
    store = Store(place)
    tables.create(store, config.biometrics.keep)
    ledger = Ledger(store, Keys("o", "e"))
    spans: list[ChunkSpan] = list(pairwise([0, *borders, -1]))
    frames = film.frames()
    if not config.observe.camera_motion:
        frames = [frame | {"motion": None} for frame in frames]
    for span in spans:
        ledger.commit(video_id, span, *chunk(film, frames, span))
    return job_of(film, spans, ledger, config, video_id)


def job_of(film: Film, spans: Sequence[ChunkSpan], ledger: Ledger, config: Config, video_id: str = "v") -> VideoJob:
    return VideoJob(
        video_id=video_id,
        uri=f"/in/{video_id}.mp4",
        probe=probe(film),
        chunks=tuple(spans),
        csv_names=(f"csv/{video_id}.mp4.csv",),
        ledger=ledger,
        config=config,
        config_id="c",
        spaces={"body": "looks", "face": "faces"},
        priors=WIDE,
    )


def with_recipe(work: VideoJob) -> VideoJob:
    """Return the same job under the config_id of its configuration, and write that configuration into the output."""
    work = replace(work, config_id=reduced_id(work.ledger.keys, work.config, {}))
    records.write_recipe(work.ledger.store, work.config_id, recipe(work.config).to_json())
    return work


def recipe(config: Config) -> Recipe:
    """Return the recipe with which `job` makes videos."""
    return Recipe(
        knobs=config.result_knobs(),
        keys=Keys("o", "e"),
        spaces={"body": "looks", "face": "faces"},
        likenesses={},
        models={"body": {"name": "looks", "sha256": "0", "licence": "MIT"}},
        reduce_revision=REDUCE_REVISION,
    )


def target(config_id: str, *settings: str) -> WantedTables:
    config = configured(*settings)
    return WantedTables(config, recipe(config), config_id)


def publish(film: Film, borders: Sequence[int], place: str, *settings: str, video_id: str = "v") -> VideoJob:
    """Make an output as `process` leaves it, of one source that is `film`, with durable chunks cut at `borders`."""
    work = with_recipe(job(film, borders, place, *settings, video_id=video_id))
    reduce_video(work, lambda parts: [track_part(part) for part in parts])
    index = OutputIndex.load(work.ledger.store)
    named = Source(uri=work.uri, name=f"{video_id}.mp4", named_by="/in", etag="e")
    index.name_sources(Listing((named,), 0, ("/in",)))
    index.set_source(work.uri, video_id=video_id)
    index.follow_videos()
    index.save_sources()
    return work


def probe(film: Film) -> Probe:
    return Probe(
        kind="video",
        width=WIDTH,
        height=HEIGHT,
        stored=(WIDTH, HEIGHT),
        insets=(0, 0, 0, 0),
        mirrored=False,
        rotation=0,
        sample_aspect=Fraction(1),
        frames_say_aspect=False,
        transfer=0,
        codec="h264",
        profile="High",
        pixel_format="yuv420p",
        interlaced=False,
        fps=Fraction(film.fps),
        time_base=1 / Fraction(film.fps),
        start_pts=0,
        duration_s=film.duration_s,
        promised_s=film.duration_s,
        keyframe_ns=(),
        enterable=True,
        times_are_counted=False,
        recorded_at=None,
        stream=0,
        packet_bytes=0,
        packet_ids=(),
        warning=None,
    )


def chunk(film: Film, frames: Sequence[dict[str, Any]], span: ChunkSpan) -> tuple[pa.Table, pa.Table]:
    """Return the arguments of `Ledger.commit` for the cells `span` of a film that has these `frames`."""
    owned = [
        i for i, frame in enumerate(frames) if span[0] <= frame["cell"] and (span[1] < 0 or frame["cell"] < span[1])
    ]
    detections: list[dict[str, Any]] = []
    faces: list[dict[str, Any]] = []
    bodies: list[dict[str, Any]] = []
    for place, i in enumerate(owned):
        if not frames[i]["analysed"]:
            continue
        time_s = frames[i]["time_ns"] / 1e9
        opens_cell = not place or frames[owned[place - 1]]["cell"] != frames[i]["cell"]
        for number, walker in enumerate(film.walkers):
            box = walker.box(time_s, film.camera_x(frames[i]["time_ns"]))
            if box is None:
                continue
            if walker.age is not None and opens_cell:
                faces.append(_face(walker, len(detections), place, box))
                if walker.restored_age is not None and frames[i]["cell"] % 2 == 0:
                    faces[-1] |= {"restored": True, "age": walker.restored_age}
                if walker.face is not None:
                    faces[-1]["embedding"] = film.vector(500 + walker.face, i * 100 + number)
            if walker.age is None and walker.body_age is not None and opens_cell:
                judgement = {"age": walker.body_age, "age_std": 8.6, "female_prob": walker.female_prob}
                bodies.append({"detection": len(detections), "frame": place, "quality": 0.7, **judgement})
            vector = None if walker.look is None else film.vector(walker.look, i * 100 + number)
            score = walker.score(time_s)
            detections.append({"frame": place, "box": box, "score": score, "bodiless": False, "embedding": vector})
        if any(int(time_s) == int(stranger) for stranger in film.strangers) and opens_cell:
            faces.append(_face(Walker(0, 0, 0, age=40.0), None, place, [300.0, 10.0]))
    notes = [(cell, DAMAGED) for cell in film.damaged if span[0] <= cell and (span[1] < 0 or cell < span[1])]
    head = {"warning": json.dumps(notes) if notes else None, "width": WIDTH, "height": HEIGHT}
    observed = pa.Table.from_pylist(
        [head | {"thumbnail_pixels": PIXELS, "frames": [frames[i] for i in owned], "detections": detections}],
        schema=rows.OBSERVED,
    )
    enriched = {"faces": faces, "aligned": None, "bodies": bodies}
    return observed, pa.Table.from_pylist([enriched], schema=rows.ENRICHED)


def _face(walker: Walker, detection: int | None, frame: int, box: list[float]) -> dict[str, Any]:
    x, y = box[0] + 15, box[1]
    return {
        "detection": detection,
        "frame": frame,
        "box": [x, y, x + 30, y + 40],
        "landmarks": [x] * 10,
        "score": 0.99,
        "sharpness": 100.0,
        "quality": 0.8,
        "judged": True,
        "restored": False,
        "age": walker.age,
        "age_std": 6.0,
        "age_lean": walker.age_lean,
        "female_prob": walker.female_prob,
    }
