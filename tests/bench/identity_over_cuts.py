"""Measure whether a person keeps one id over hard cuts: B-cubed on films cut from the clips beside the repository.

    python -m tests.bench.identity_over_cuts [--config FILE …] [--set KEY=VALUE …] [--faces] [--cache DIR]
        [--held-out | --film NAME …] [--sweep KEY=VALUE,VALUE,…] [--show N] [--pictures DIR] [--json FILE]

A film shows segments of several clips in turn (A1 B1 C1 A2 B2 …). The truth of a clip is its ground truth if it has
one. Otherwise the truth is its uncut run with the same profile, at the same size and rate: every tracklet there is a
person, so that the linker has no influence on it. Cases that were inspected by eye are corrected by hand (SAME_ID,
FIXES). A box of the film is matched to the box of the same frame in the truth (IoU at least .5) and takes its
person. People of different clips are different people. The main figure is B-cubed over all matched boxes. Most of a
person's boxes may lie in one segment. B-cubed is therefore also given over the people of two or more segments alone,
and for the bare tracklets, before any linking.

The results of the models are kept in --cache: durable chunks by their configuration, tracks by theirs. Neither key
depends on the code. Only linking and publishing are repeated. The uncut runs are made once, with the profile and
without --set. --faces adds MobileFaceNet's embedding. Films whose names begin with "held-out" use other clips than
the rest, and are not used for tuning.
"""

import argparse
import json
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline import rows
from pipeline.arrays import Picture
from pipeline.boxes import pairwise_iou
from pipeline.config import digest, load
from pipeline.corpora.mot import MotRows, read_mot
from pipeline.evaluation.tracking import b_cubed, matched
from pipeline.media.draw import encode_png
from pipeline.planning import recipe
from pipeline.storage import tables
from pipeline.storage.blobs import fetch
from pipeline.storage.ledger import Ledger
from pipeline.storage.store import Store
from pipeline.video.blocks import TrackingResult
from pipeline.video.job import VideoJob
from pipeline.video.parts import Part
from pipeline.video.reduce import publish_chunks
from pipeline.video.timeline import read_timeline
from pipeline.video.track import track_part
from pipeline.weights import Registry
from tests.clips import RATE
from tests.films import FrameMap, Placement, Segment, displayed_shape, make_film
from tests.golden.by_hand import SHARED_WEIGHTS, make_durable
from tests.shared import SHARED

WIDTH, HEIGHT = 960, 540
FACES = "estimate.face_embedding=mobilefacenet"
KEEP = "biometrics.keep=true"
FRAME_NS = round(1e9 / RATE)
FIX_PX = 12
"""px. The largest distance of a box from the point that was inspected. The last bits of another CPU can begin or end
a track elsewhere."""

Cut = tuple[str, float, float]
"""The name of a clip, and the start and end of the part shown, in s."""

FILMS: Mapping[str, Sequence[Cut]] = {
    "crowd": [
        ("plaza", 0, 3),
        ("street-backlit", 0, 2.6),
        ("TUD-Stadtmitte", 0, 2.2),
        ("plaza", 4.4, 7.4),
        ("street-backlit", 3, 5.6),
        ("TUD-Stadtmitte", 2.4, 4.6),
        ("plaza", 9, 12),
        ("street-backlit", 6, 8.6),
        ("TUD-Stadtmitte", 4.8, 7),
    ],
    "portraits": [
        ("two-friends", 0, 4),
        ("meeting", 8, 12),
        ("multishot-anamorphic", 7, 9.2),
        ("two-friends", 6, 10),
        ("meeting", 16, 19.6),
        ("multishot-anamorphic", 9.4, 11.6),
        ("two-friends", 12, 15),
        ("meeting", 24, 28),
        ("two-friends", 18, 22),
        ("meeting", 35, 39),
    ],
    "yard": [
        ("PETS09-S2L1", 18, 22),
        ("meeting", 12, 14.6),
        ("PETS09-S2L1", 26, 30),
        ("street-backlit", 0.4, 3.2),
        ("PETS09-S2L1", 36, 40),
        ("meeting", 30, 32.6),
        ("PETS09-S2L1", 44, 48),
        ("street-backlit", 4.4, 7.2),
        ("PETS09-S2L1", 52, 56),
    ],
    "held-out-streets": [
        ("highstreet", 0, 2),
        ("PETS09-S2L1", 68, 72),
        ("arcade", 0, 2),
        ("dance", 0, 2),
        ("highstreet", 2.04, 4.04),
        ("PETS09-S2L1", 76, 80),
        ("arcade", 2.08, 4.08),
        ("dance", 2.04, 4.04),
        ("highstreet", 4.08, 5.88),
        ("PETS09-S2L1", 88, 92),
        ("PETS09-S2L1", 104, 108),
    ],
    "held-out-rooms": [
        ("one-by-one", 56, 59),
        ("talkshow", 0, 1.04),
        ("children", 0, 2.2),
        ("one-by-one", 62, 65),
        ("one-by-one", 78, 81),
        ("children", 2.2, 4.4),
        ("talkshow", 1.04, 2.08),
        ("one-by-one", 84, 87),
        ("one-by-one", 94, 97),
        ("children", 4.4, 6.6),
        ("one-by-one", 101, 104),
    ],
}
HELD_OUT = "held-out"
SAME_ID: Mapping[str, Mapping[int, int]] = {
    # In the ground truth a person who leaves the yard gets a new id on return. Inspected by eye, these are the man in a
    # long black coat, the one in a leather jacket with a paper, the one in brown and jeans, the bald one, the one in
    # red and navy, the blonde woman in a black coat, and the woman in red. No two ids of one person are ever seen
    # together.
    "PETS09-S2L1": {19: 1, 15: 14, 18: 14, 8: 14, 9: 5, 13: 2, 11: 3, 12: 4, 10: 6},
}


@dataclass(frozen=True, slots=True)
class Fix:
    """The true person of a tracklet of an uncut run.

    time_s: s of the clip. The time at which the tracklet's box has its centre at `at`.
    at: (x, y) px of the film.
    who: a name within the clip; empty if nobody can say.
    from_s: s of the clip. The fix holds from then on.
    until_s: s of the clip. The fix holds before that time.
    """

    time_s: float
    at: tuple[float, float]
    who: str
    from_s: float = 0
    until_s: float = float("inf")


FIXES: Mapping[str, Sequence[Fix]] = {
    # The track of a woman in a black dress passes over a group at the edge of the picture to a man of that group.
    "plaza": [
        Fix(11.5, (871, 73), "", 9.2, 10.8),
        Fix(11.5, (871, 73), "man in a grey suit", 10.8),
    ],
    # A man in black walks behind others. A woman beside a pole has two boxes. A woman in white passes in front of a
    # woman in blue, and tracks change from one to the other and from a boy to her.
    "street-backlit": [
        Fix(2.64, (118, 333), "man in black"),
        Fix(7.6, (57, 334), "man in black"),
        Fix(0.2, (437, 351), "blonde in a dark dress", 0, 1),
        Fix(0.2, (437, 351), "", 1),
        Fix(2.08, (472, 338), "blonde in a dark dress"),
        Fix(2.28, (410, 343), "woman in blue"),
        Fix(6.72, (465, 335), "woman in white", 0, 7.4),
        Fix(6.72, (465, 335), "woman in blue", 7.4),
        Fix(2.24, (378, 334), "woman in white"),
        Fix(4.8, (408, 341), "woman in white"),
        Fix(8.56, (544, 341), "woman in white", 7.7),
    ],
    # The friend in blue, who is partly hidden, has four tracks.
    "two-friends": [
        Fix(0.12, (330, 371), "friend in blue"),
        Fix(1.88, (658, 378), "friend in blue"),
        Fix(14.52, (598, 278), "friend in blue"),
        Fix(12.36, (291, 361), "friend in blue"),
    ],
    # One man has two tracks. Another track changes from a man with a backpack to a man in a coat who passes him.
    "highstreet": [
        Fix(1.72, (226, 166), "man in blue"),
        Fix(4.76, (346, 111), "man in blue"),
        Fix(3.92, (552, 28), "", 3.2, 3.4),
        Fix(3.92, (552, 28), "man in a coat", 3.4),
    ],
    # One man has two tracks. A woman's track changes to the person who hides her. A woman in red has two boxes. A man
    # in a beige coat may be the one who is seen from behind later.
    "arcade": [
        Fix(0.4, (568, 422), "man with a white bag", 0, 1),
        Fix(0.4, (568, 422), "", 1),
        Fix(3.48, (552, 379), "man with a white bag"),
        Fix(1.56, (664, 441), "", 3),
        Fix(2.2, (428, 389), ""),
        Fix(0.72, (260, 421), ""),
    ],
    # Two men have two tracks each. One of these tracks begins on a woman who passes.
    "dance": [
        Fix(0.52, (208, 171), "man in grey"),
        Fix(3.52, (223, 181), "man in grey"),
        Fix(2.08, (30, 208), "man with a blue backpack"),
        Fix(3.32, (33, 201), "", 0, 2.95),
        Fix(3.32, (33, 201), "man with a blue backpack", 2.95),
    ],
    # The boy is hidden for a while.
    "children": [Fix(0.4, (247, 344), "boy"), Fix(5.36, (88, 233), "boy")],
}


# --- films and their truth -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a run.

    files: configuration files.
    settings: KEY=VALUE, on top of the files.
    cache: the folder that keeps films and chunks.
    faces: use face embeddings.
    """

    files: Sequence[Path]
    settings: Sequence[str]
    cache: Path
    faces: bool


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A film made of segments of clips.

    name: its name.
    video: the file.
    segments: the parts that it is made of.
    source: the origin of each of its frames.
    """

    name: str
    video: Path
    segments: Sequence[Segment]
    source: FrameMap

    @property
    def place(self) -> Path:
        """The folder of its chunks."""
        return self.video.with_suffix("")


def find_clip(name: str) -> Path:
    found = sorted([*SHARED.glob(f"clips/{name}.*"), *SHARED.glob(f"gt/mot/{name}/{name}.mp4")])
    assert len(found) == 1, f"{name} must be the name of one clip, found {found}"
    return found[0]


def kept_film(name: str, cuts: Sequence[Cut], cache: Path) -> Film:
    """Return the film of that name, and make it if it is not in the cache."""
    segments = [Segment(find_clip(clip), start_s, end_s) for clip, start_s, end_s in cuts]
    video = cache / f"{name}-{digest(list(cuts), [WIDTH, HEIGHT])[:8]}.mp4"
    source = video.with_suffix(".npz")
    if not source.exists():
        cache.mkdir(parents=True, exist_ok=True)
        make_film(video, segments, width=WIDTH, height=HEIGHT).save(source)
    return Film(name, video, segments, FrameMap.load(source))


def uncut(clip: str, cache: Path) -> Film:
    """Return as much of a clip as any film shows, in one piece."""
    spans = [cut[1:] for cuts in FILMS.values() for cut in cuts if cut[0] == clip]
    whole = (clip, min(start_s for start_s, _ in spans), max(end_s for _, end_s in spans))
    return kept_film(f"uncut-{clip}", [whole], cache)


def truth_of(film: Film, setup: Setup) -> MotRows:
    """Return the true boxes of a film by frame from 1, with ids of the film, including rows that do not count."""
    parts = []
    first_id = 0
    clips = [segment.video.stem for segment in film.segments]
    for clip in dict.fromkeys(clips):
        own = np.flatnonzero(np.isin(film.source.segments, [i for i, name in enumerate(clips) if name == clip]))
        is_mot = (SHARED / "gt" / "mot" / clip).is_dir()
        known = _ground_truth(clip) if is_mot else _uncut_truth(clip, setup)
        numbers = (film.source.sources if is_mot else film.source.frames)[own] + 1
        parts += [
            MotRows(np.full(len(rows), frame + 1), rows.ids + first_id, rows.boxes, rows.counts)
            for frame, number in zip(own.tolist(), numbers.tolist(), strict=True)
            if len(rows := known[known.frames == number])
        ]
        first_id += int(known.ids.max(initial=0)) + 1
    names = ("frames", "ids", "boxes", "counts")
    whole = MotRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return whole[np.argsort(whole.frames, kind="stable")]


@cache
def _ground_truth(clip: str) -> MotRows:
    """Return the ground truth by frame of the file, from 1, in px of the film."""
    rows = read_mot(SHARED / "gt" / "mot" / clip / "gt.txt")
    shape = displayed_shape(find_clip(clip))
    boxes = Placement.of(shape, (WIDTH, HEIGHT)).boxes(rows.boxes, shape)
    same = SAME_ID.get(clip, {})
    return replace(rows, boxes=boxes, ids=np.array([same.get(i, i) for i in rows.ids.tolist()]))


def _uncut_truth(clip: str, setup: Setup) -> MotRows:
    """Return the truth of an uncut run by frame of the clip at the film's rate, from 1.

    The uncut run is made once, whatever --set says.
    """
    film = uncut(clip, setup.cache)
    if not (film.place / "detections").exists():
        job = look_at(film, replace(setup, settings=(), faces=False))
        publish_chunks(job, read_timeline(job, FRAME_NS), _kept_tracks(film, job), Store(str(film.place)))
    found = _published(Store(str(film.place)))
    rows = replace(found.rows, frames=film.source.frames[found.rows.frames - 1] + 1, ids=found.tracklets)
    return put_right(rows, found.tracklets, FIXES.get(clip, []))


def put_right(rows: MotRows, tracklets: NDArray[np.int64], fixes: Sequence[Fix]) -> MotRows:
    """Return the rows with the ids that the fixes give them. A row whose person nobody can name does not count.

    Raises ValueError if a fix points at nobody. The uncut run then differs from the one that was inspected.
    """
    ids, counts = rows.ids.copy(), rows.counts.copy()
    times_s, centres = (rows.frames - 1) / float(RATE), (rows.boxes[:, :2] + rows.boxes[:, 2:]) / 2
    names = {name: int(ids.max(initial=0)) + 1 + number for number, name in enumerate({fix.who: 0 for fix in fixes})}
    for fix in fixes:
        here = np.flatnonzero(rows.frames - 1 == round(fix.time_s * RATE))
        off = np.linalg.norm(centres[here] - fix.at, axis=1)
        if not len(here) or off.min() > FIX_PX:
            raise ValueError(f"nobody is at {fix.at} at {fix.time_s} s, where {fix.who or 'somebody'} should be")
        own = tracklets == tracklets[here[off.argmin()]]
        own &= (times_s >= fix.from_s) & (times_s < fix.until_s)
        ids[own], counts[own] = names[fix.who], bool(fix.who)
    return replace(rows, ids=ids, counts=counts)


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a run on a film.

    rows: R boxes of persons, by frame from 1.
    tracklets: (R,) tracklet of each row.
    links: the table `links`.
    num_shots: number of shots found.
    """

    rows: MotRows
    tracklets: NDArray[np.int64]
    links: pa.Table
    num_shots: int


def follow(film: Film, setup: Setup) -> Published:
    """Reduce a film from its durable chunks."""
    job = look_at(film, setup)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        publish_chunks(job, read_timeline(job, FRAME_NS), _kept_tracks(film, job), store)
        return _published(store)


def look_at(film: Film, setup: Setup) -> VideoJob:
    """Return the job of a film with its durable chunks, from the cache if they are there.

    Faces always get an embedding if the profile knows the network. One run then serves with and without it.
    """
    settings = [*setup.settings, KEEP]
    plain = load(setup.files, settings).on_device("cpu")
    if FACES.split("=")[1] not in plain.weights.extra:
        return make_durable(film.video, film.place, setup.files, settings)
    with_faces = make_durable(film.video, film.place, setup.files, [*settings, FACES])
    if setup.faces:
        return with_faces
    registry = Registry.of(plain, fetch)
    ledger = Ledger(with_faces.ledger.store, recipe.keys(plain, registry))
    for span in sorted({*with_faces.chunks} - {*ledger.durable().get("v", [])}):
        enriched = with_faces.ledger.enriched("v", span, rows.ENRICHED.names)
        faces = [[face | {"embedding": None} for face in chunk] for chunk in enriched["faces"].to_pylist()]
        enriched = enriched.set_column(0, "faces", pa.array(faces, rows.ENRICHED.field("faces").type))
        ledger.commit("v", span, with_faces.ledger.observed("v", span, rows.OBSERVED.names), enriched)
    return replace(with_faces, config=plain, ledger=ledger, spaces=recipe.spaces(plain, registry))


def _kept_tracks(film: Film, job: VideoJob) -> Any:
    """Return a `run_parts` that tracks once per configuration."""
    key = digest(job.ledger.keys.observed, job.config.result_knobs("track", "cuts"))
    path = film.place / f"tracks-{key}.pickle"

    def run_parts(parts: Sequence[Part]) -> list[TrackingResult]:
        if not path.exists():
            path.write_bytes(pickle.dumps([track_part(part) for part in parts]))
        return pickle.loads(path.read_bytes())

    return run_parts


def _published(store: Store) -> Published:
    table = tables.read_one(store, "detections", "v")
    left, top, width, height = (
        table[f"bb_{name}"].to_numpy().astype(np.float32) for name in ("xmin", "ymin", "width", "height")
    )
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    found = MotRows(table["frame_num"].to_numpy(), table["person_id"].to_numpy(), boxes, np.ones(len(table), np.bool_))
    num_shots = len(tables.read_one(store, "shots", "v"))
    return Published(found, table["tracklet_id"].to_numpy(), tables.read_one(store, "links", "v"), num_shots)


# --- scores ----------------------------------------------------------------------------------------------------------


def match(found: MotRows, truth: MotRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the matching rows of `found` and `truth`. Boxes matched to a row that does not count are left out."""
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for frame in np.intersect1d(found.frames, truth.frames):
        a, b = np.flatnonzero(found.frames == frame), np.flatnonzero(truth.frames == frame)
        rows, columns = matched(pairwise_iou(found.boxes[a], truth.boxes[b]).astype(np.float64))
        counts = truth.counts[b[columns]]
        pairs.append((a[rows[counts]], b[columns[counts]]))
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


@dataclass(frozen=True, eq=False)
class Matches:
    """K matched boxes of a film.

    persons: (K,) person found.
    tracklets: (K,) tracklet found.
    people: (K,) person in truth.
    segments: (K,) segment of the film.
    frames: (K,) frame of the film, from 0.
    boxes: (K, 4) float32 xyxy, px of the film.
    """

    persons: NDArray[np.int64]
    tracklets: NDArray[np.int64]
    people: NDArray[np.int64]
    segments: NDArray[np.int64]
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]

    @classmethod
    def of(cls, film: Film, found: Published, truth: MotRows) -> "Matches":
        a, b = match(found.rows, truth)
        frames = found.rows.frames[a] - 1
        return cls(
            found.rows.ids[a],
            found.tracklets[a],
            truth.ids[b],
            film.source.segments[frames],
            frames,
            found.rows.boxes[a],
        )

    @classmethod
    def pooled(cls, films: Sequence["Matches"]) -> "Matches":
        """Return the boxes of all films. The films share no ids."""

        def apart(name: str) -> NDArray[np.int64]:
            firsts = np.cumsum([0, *(int(getattr(film, name).max(initial=0)) + 1 for film in films)])
            return np.concatenate([getattr(film, name) + first for film, first in zip(films, firsts, strict=False)])

        return cls(
            **{name: apart(name) for name in ("persons", "tracklets", "people", "segments", "frames")},
            boxes=np.concatenate([film.boxes for film in films]),
        )

    @cached_property
    def recurring(self) -> NDArray[np.bool_]:
        """(K,) bool. Whether the true person is seen in two segments or more."""
        people, _ = np.unique(np.stack([self.people, self.segments]), axis=1)
        return np.isin(self.people, np.flatnonzero(np.bincount(people) > 1))

    def figures(self) -> dict[str, Any]:
        """Return B-cubed precision and recall over all boxes, over people of two or more segments, and of bare
        tracklets."""
        recur, alone = self.recurring, b_cubed(self.tracklets, self.people)
        every, those = b_cubed(self.persons, self.people), b_cubed(self.persons, self.people, recur)
        bare = b_cubed(self.tracklets, self.people, recur)
        assert every, "somebody must be found"
        assert alone
        if not (those and bare):
            raise ValueError("somebody must be seen in two segments")
        shares = {
            "precision": every[0],
            "recall": every[1],
            "recurring_precision": those[0],
            "recurring_recall": those[1],
            "bare_precision": alone[0],
            "bare_recall": alone[1],
            "bare_recurring_recall": bare[1],
        }
        return {name: round(share, 4) for name, share in shares.items()} | {
            "num_boxes": len(self.persons),
            "num_recurring": int(recur.sum()),
            "num_persons": len(np.unique(self.persons)),
            "num_people": len(np.unique(self.people)),
        }


# --- what went wrong -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mistake:
    """Two parts of a film that are the same person either in the result or in truth, but not in both.

    kind: 'wrong' (one person found, two in truth) or 'missed' (two persons found, one in truth).
    cost: share that it takes from precision or recall. All costs add up to the difference from 1.
    parts: (person found, person in truth) of each part.
    tracklets: one tracklet of either part. They are equal if a tracklet changes person.
    link: the most similar link between the two parts, if there is one.
    """

    kind: str
    cost: float
    parts: tuple[tuple[int, int], tuple[int, int]]
    tracklets: tuple[int, int]
    link: Mapping[str, Any] | None


def mistakes(matches: Matches, links: pa.Table) -> list[Mistake]:
    """Return all mistakes of a film, the most costly first."""
    cells, of_box, counts = np.unique(
        np.stack([matches.persons, matches.people], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    # Assign each tracklet to the cell that has most of its boxes.
    tracklets, of_tracklet = np.unique(matches.tracklets, return_inverse=True)
    shares = np.zeros((len(tracklets), len(cells)), np.int64)
    np.add.at(shares, (of_tracklet, of_box), 1)
    cell_of = dict(zip(tracklets.tolist(), shares.argmax(axis=1).tolist(), strict=True))
    largest = tracklets[shares.argmax(axis=0)]
    best: dict[tuple[int, int], Mapping[str, Any]] = {}
    for row in links.to_pylist():
        ends = sorted((cell_of.get(row["tracklet_a"], -1), cell_of.get(row["tracklet_b"], -1)))
        key = (ends[0], ends[1])
        if ends[0] >= 0 and (key not in best or _likeness(row) > _likeness(best[key])):
            best[key] = row
    found = []
    for axis, kind in ((0, "wrong"), (1, "missed")):
        sizes = np.bincount(cells[:, axis], counts)
        for group in np.unique(cells[:, axis]):
            for a, b in combinations(np.flatnonzero(cells[:, axis] == group).tolist(), 2):
                cost = 2 * counts[a] * counts[b] / sizes[group] / len(of_box)
                link = best.get((a, b))
                first, second = (link["tracklet_a"], link["tracklet_b"]) if link else (largest[a], largest[b])
                if cell_of[int(first)] != a and cell_of[int(second)] == a:
                    first, second = second, first
                parts = (tuple(cells[a].tolist()), tuple(cells[b].tolist()))
                found.append(Mistake(kind, float(cost), parts, (int(first), int(second)), link))
    return sorted(found, key=lambda mistake: -mistake.cost)


def _likeness(row: Mapping[str, Any]) -> list[float]:
    return [-2 if row[name] is None else row[name] for name in ("face_similarity", "body_similarity")]


def reason(mistake: Mistake) -> str:
    """Return the cause of a mistake, in a word or two."""
    if mistake.tracklets[0] == mistake.tracklets[1]:
        return "one tracklet"
    return mistake.link["why"] if mistake.link else "no link"


def by_reason(found: Iterable[Mistake]) -> str:
    """Return, by kind and reason, the cost of the mistakes in precision and recall together, as text."""
    costs: dict[str, float] = {}
    for mistake in found:
        name = f"{mistake.kind}, {reason(mistake)}"
        costs[name] = costs.get(name, 0) + mistake.cost
    return "; ".join(f"{name} {cost:.3f}" for name, cost in sorted(costs.items(), key=lambda item: -item[1]))


def describe(mistake: Mistake) -> str:
    """Describe a mistake in one line."""
    (person_a, truth_a), (person_b, truth_b) = mistake.parts
    who = f"{mistake.kind:6s} {mistake.cost:.4f}  true {truth_a}/{truth_b} as {person_a}/{person_b}"
    a, b = mistake.tracklets
    line = f"{who:38s} tracklets {a}/{b}".ljust(62)
    link = mistake.link
    if link is None or a == b:
        return f"{line} {reason(mistake)}"
    numbers = " ".join(
        f"{label} {'  -  ' if link.get(name) is None else format(link[name], '5.3f')}"
        for label, name in (("body", "body_similarity"), ("face", "face_similarity"), ("score", "score"))
    )
    return (
        f"{line} {link['kind']:4s} {numbers} {link['gap_s']:5.1f} s  {'joined' if link['joined'] else ''} {link['why']}"
    )


CROP_PX, CROPS = (96, 192), 5


def draw(film: Film, matches: Matches, failing: Sequence[Mistake], path: Path) -> None:
    """Write a picture of the failing cases. Each row shows one case, with crops of either side."""
    wanted: list[list[int]] = []
    for mistake in failing:
        for (person, people), tracklet in zip(mistake.parts, mistake.tracklets, strict=True):
            own = (matches.persons == person) & (matches.people == people)
            here = np.flatnonzero(own & (matches.tracklets == tracklet))
            here = here if len(here) else np.flatnonzero(own)
            wanted.append(here[np.linspace(0, len(here) - 1, CROPS).astype(int)].tolist())
    crops = dict(_crops(film.video, matches, {box for boxes in wanted for box in boxes}))
    lines = []
    for number, mistake in enumerate(failing):
        sides = [np.concatenate([crops[box] for box in wanted[2 * number + side]], axis=1) for side in (0, 1)]
        line = np.concatenate([sides[0], np.full((CROP_PX[1], 24, 3), 255, np.uint8), sides[1]], axis=1)
        lines += [_label(describe(mistake), line.shape[1]), line]
    path.write_bytes(encode_png(np.concatenate(lines)))


def _crops(video: Path, matches: Matches, boxes: Iterable[int]) -> Iterator[tuple[int, Picture]]:
    """Yield each wanted box, fitted into CROP_PX."""
    by_frame: dict[int, list[int]] = {}
    for box in boxes:
        by_frame.setdefault(int(matches.frames[box]), []).append(box)
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            for box in by_frame.get(number, []):
                left, top, right, bottom = matches.boxes[box].tolist()
                crop = frame.to_image().crop((round(left), round(top), round(right), round(bottom)))
                scale = min(CROP_PX[0] / crop.width, CROP_PX[1] / crop.height)
                crop = crop.resize((max(1, round(crop.width * scale)), max(1, round(crop.height * scale))))
                canvas = Image.new("RGB", CROP_PX)
                canvas.paste(crop, ((CROP_PX[0] - crop.width) // 2, (CROP_PX[1] - crop.height) // 2))
                ImageDraw.Draw(canvas).text((2, 2), f"{number}", fill=(255, 255, 0))
                yield box, np.asarray(canvas)


def _label(text: str, width: int) -> Picture:
    canvas = Image.new("RGB", (width, 20), (255, 255, 255))
    ImageDraw.Draw(canvas).text((2, 2), text, fill=(0, 0, 0), font=ImageFont.load_default(size=12))
    return np.asarray(canvas)


# --- the table -------------------------------------------------------------------------------------------------------

HEADER = f"{'':22s}  all boxes       people who recur     tracklets alone       persons  boxes (recurring)   cuts\n" + (
    f"{'':22s} prec. recall     prec. recall     prec. recall (rec.)    /true"
)


def line(figures: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    count = f"{figures['num_persons']:3d}/{figures['num_people']:<3d}"
    return (
        f"{figures['precision']:.3f} {figures['recall']:.3f}      "
        f"{figures['recurring_precision']:.3f} {figures['recurring_recall']:.3f}      "
        f"{figures['bare_precision']:.3f} {figures['bare_recall']:.3f} ({figures['bare_recurring_recall']:.3f})   "
        f"{count}  {figures['num_boxes']:6d} ({figures['num_recurring']})"
    )


def measure(names: Sequence[str], setup: Setup) -> dict[str, tuple[Film, Published, Matches]]:
    """Run every film."""
    runs = {}
    for name in names:
        film = kept_film(name, FILMS[name], setup.cache)
        tracks = follow(film, setup)
        runs[name] = film, tracks, Matches.of(film, tracks, truth_of(film, setup))
    return runs


def main() -> None:
    """Print the tables, and write them as JSON and as pictures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--faces", action="store_true")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--film", choices=list(FILMS), action="append")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sweep", action="append", default=[], metavar="KEY=VALUE,VALUE,…")
    parser.add_argument("--show", type=int, default=12, help="so many mistakes of a film are told")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.film or [name for name in FILMS if name.startswith(HELD_OUT) == arguments.held_out]
    with tempfile.TemporaryDirectory() as scratch:
        cache_dir = arguments.cache or Path(scratch)
        setup = Setup(arguments.config or [SHARED_WEIGHTS], arguments.settings, cache_dir, arguments.faces)
        results: dict[str, Any] = {}
        print(HEADER)
        runs = measure(names, setup)
        for name, (film, found, matches) in runs.items():
            results[name] = matches.figures()
            print(f"{name:22s} {line(results[name])}   {found.num_shots - 1}/{len(film.source.cuts)}", flush=True)
        results["pooled"] = Matches.pooled([matches for _, _, matches in runs.values()]).figures()
        print(f"{'pooled':22s} {line(results['pooled'])}", flush=True)
        for name, (film, found, matches) in runs.items():
            every = mistakes(matches, found.links)
            failing = every[: arguments.show]
            print(f"\n{name}: {by_reason(every)}", *map(describe, failing), sep="\n  ")
            if arguments.pictures and failing:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                draw(film, matches, failing, arguments.pictures / f"{name}.png")
        for key, values in (sweep.split("=") for sweep in arguments.sweep):
            for value in values.split(","):
                moved = replace(setup, settings=[*setup.settings, f"{key}={value}"])
                pooled = Matches.pooled([matches for _, _, matches in measure(names, moved).values()])
                results[f"{key}={value}"] = pooled.figures()
                print(f"{key}={value}".ljust(34), line(results[f"{key}={value}"]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
