"""Small true examples: the durable chunks of a video that nobody has filmed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import rows
from pipeline.arrays import Quantised
from pipeline.config import Config, load
from pipeline.cores.likeness import WIDE
from pipeline.cores.plan import slot_of
from pipeline.media.probe import Probe
from pipeline.stages import flow
from pipeline.stages.reduce import Job, reduce_video
from pipeline.stages.track import track_part
from pipeline.storage import state, tables
from pipeline.storage.ledger import Keys, Ledger, Span
from pipeline.storage.sources import Listing, Source
from pipeline.storage.state import State
from pipeline.storage.store import Store

WIDTH, HEIGHT, PIXELS = 640, 480, 1000
FPS = 25


@dataclass(frozen=True, slots=True)
class Walker:
    """Somebody who walks right at `speed` px/s from `x`, seen in [start_s, end_s) but for `hidden` spans of seconds.

    look: number of the appearance; equal numbers look alike, 1.3 looks rather like 1 and a bit like 2. age,
    female_prob: of every face, one a second. face: likewise what the face embedding sees; None: there is none.
    """

    start_s: float
    end_s: float
    x: float
    speed: float = 30.0
    y: float = 100.0
    look: float = 0
    hidden: tuple[tuple[float, float], ...] = ()
    age: float | None = None
    female_prob: float = 0.9
    face: float | None = None

    def box(self, time_s: float) -> list[float] | None:
        if not self.start_s <= time_s < self.end_s or any(a <= time_s < b for a, b in self.hidden):
            return None
        x = round(self.x + self.speed * (time_s - self.start_s), 1)
        return [x, self.y, x + 60, self.y + 180] if 0 <= x <= WIDTH - 60 else None


@dataclass(frozen=True, slots=True)
class Film:
    """walkers: who is seen. cuts: times of hard cuts, in s. shift_ns: delay of odd frames, for variable frame rates."""

    duration_s: float
    walkers: Sequence[Walker]
    cuts: Sequence[float] = ()
    shift_ns: int = 0
    seed: int = 0

    def frames(self) -> list[dict[str, Any]]:
        found = []
        previous: tuple[int, int] | None = None
        for i in range(round(self.duration_s * FPS)):
            time_ns = i * 10**9 // FPS + (self.shift_ns if i % 2 else 0)
            time_s = Fraction(time_ns, 10**9)
            slot = (int(time_s), slot_of(time_s, Fraction(1), Fraction(8)))
            following = Fraction((i + 1) * 10**9 // FPS, 10**9)
            cut = any(time_s < Fraction(str(c)) <= following for c in self.cuts)
            found.append(
                {"time_ns": time_ns, "cell": slot[0], "analysed": slot != previous}
                | dict.fromkeys(("hue", "saturation", "lightness"), (90 if cut else 2) * PIXELS)
            )
            previous = slot
        if found:
            found[-1] |= dict.fromkeys(("hue", "saturation", "lightness"))
        return found

    def vector(self, look: float, number: int) -> dict[str, Any]:
        """An embedding near that of the look; the noise depends on the detection alone."""
        whole, share = int(look), look - int(look)
        here, there = (np.random.default_rng(1000 + whole + step).normal(size=32) for step in (0, 1))
        centre = (1 - share) * here + share * there
        noise = np.random.default_rng((self.seed, whole, number)).normal(size=32) * 0.15
        one = Quantised.of((centre + noise).astype(np.float32)[None])
        return {"codes": one.codes[0].tobytes(), "scale": float(one.scales[0])}


def job(film: Film, borders: Sequence[int], place: str, *settings: str, video_id: str = "v") -> Job:
    """Make the chunks of `film` durable at `place`, cut at the cells `borders`, ready to be reduced."""
    config: Config = load(settings=settings).on_device("cpu")
    store = Store(place)
    tables.create(store, config.biometrics.keep)
    ledger = Ledger(store, Keys("o", "e"))
    starts = [0, *borders]
    spans: list[Span] = list(zip(starts, [*borders, -1], strict=True))
    frames = film.frames()
    for first, end in spans:
        own = [i for i, frame in enumerate(frames) if first <= frame["cell"] and (end < 0 or frame["cell"] < end)]
        ledger.commit(video_id, (first, end), *_chunk(film, frames, own))
    return Job(
        video_id=video_id,
        uri=f"/in/{video_id}.mp4",
        probe=probe(film),
        spans=tuple(spans),
        csv_names=(f"csv/{video_id}.mp4.csv",),
        ledger=ledger,
        config=config,
        config_id="c",
        spaces={"body": "looks", "face": "faces"},
        priors=WIDE,
    )


def with_recipe(work: Job) -> Job:
    """The same job under the config_id that its configuration has; the output says what that stands for."""
    keys = work.ledger.keys
    work = replace(work, config_id=flow.reduced_id(keys, work.config, {}))
    recipe = flow.Recipe(
        knobs=work.config.result_knobs(),
        keys=keys,
        spaces=work.spaces,
        likenesses={},
        models={"body": {"name": "looks", "sha256": "0", "licence": "MIT"}},
        reduce_revision=flow.REDUCE_REVISION,
    )
    state.write_recipe(work.ledger.store, work.config_id, recipe.to_json())
    return work


def publish(film: Film, borders: Sequence[int], place: str, *settings: str) -> Job:
    """Make an output as `process` leaves it, of one source that is `film`, its durable chunks cut at `borders`."""
    work = with_recipe(job(film, borders, place, *settings))
    reduce_video(work, lambda parts: [track_part(part) for part in parts])
    books = State.load(work.ledger.store)
    books.name_sources(Listing((Source(uri=work.uri, name="v.mp4", named_by="/in", etag="e"),), 0, ("/in",)))
    books.set_source(work.uri, video_id="v")
    books.follow_videos()
    books.save_sources()
    return work


def probe(film: Film) -> Probe:
    return Probe(
        kind="video",
        width=WIDTH,
        height=HEIGHT,
        rotation=0,
        sample_aspect=Fraction(1),
        codec="h264",
        fps=Fraction(FPS),
        time_base=Fraction(1, FPS),
        start_pts=0,
        duration_s=film.duration_s,
        keyframe_ns=(),
        enterable=True,
        stamped=False,
        recorded_at=None,
        stream=0,
        warning=None,
    )


def _chunk(film: Film, frames: list[dict[str, Any]], own: Sequence[int]) -> tuple[pa.Table, pa.Table]:
    detections: list[dict[str, Any]] = []
    faces: list[dict[str, Any]] = []
    for place, i in enumerate(own):
        if not frames[i]["analysed"]:
            continue
        for number, walker in enumerate(film.walkers):
            box = walker.box(frames[i]["time_ns"] / 1e9)
            if box is None:
                continue
            if walker.age is not None and (not place or frames[own[place - 1]]["cell"] != frames[i]["cell"]):
                faces.append(_face(walker, len(detections), place, box))
                if walker.face is not None:
                    faces[-1]["embedding"] = film.vector(500 + walker.face, i * 100 + number)
            vector = film.vector(walker.look, i * 100 + number)
            detections.append({"frame": place, "box": box, "score": 0.9, "bodiless": False, "embedding": vector})
    head = {"warning": None, "width": WIDTH, "height": HEIGHT, "thumbnail_pixels": PIXELS}
    observed = pa.Table.from_pylist(
        [head | {"frames": [frames[i] for i in own], "detections": detections}], schema=rows.OBSERVED
    )
    return observed, pa.Table.from_pylist([{"faces": faces, "aligned": None}], schema=rows.ENRICHED)


def _face(walker: Walker, detection: int, frame: int, box: list[float]) -> dict[str, Any]:
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
        "female_prob": walker.female_prob,
    }
