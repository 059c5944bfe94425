"""Which tracklets of a video are the same person.

Three steps with one interface between them. `calibrate` learns from the video what a similarity is worth in it
(cores.likeness). `score` measures candidate pairs of tracklets (`Links`): over a gap inside a shot by motion in both
directions, size and appearance; over shots by face and body. `join` decides on these numbers and on who was seen with
whom, and on nothing else, so that the rate of wrong joins can be moved long after the embeddings are gone: gaps first,
solved jointly, then faces, then bodies, mutual nearest neighbours in rounds. Evidence adds up as log-likelihood ratios;
two are joined where the chance that they are two people is at most `wrong_joins`. Two tracklets that share a frame,
filled frames included, are two people: that is asked of whole groups before every merge. Unsure means apart.

Numbers are rounded before they decide, and tracklets are put in order of first appearance first: neither the order in
which they come nor their names can change who is joined with whom. Of equally near candidates the earlier one goes
first, so that cores.relink finds the same ones among those that are written down.
"""

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.boxes import overlap_of_smaller
from pipeline.cores.fill import Intervals, Knots, ShotFrames
from pipeline.cores.likeness import WIDE, Likeness, Likenesses, Spread
from pipeline.cores.place import Scenes
from pipeline.cores.ranges import Count, Distance, check

GAP, SHOT, STAY = "gap", "shot", "stay"
END_S = 1.0
"""s of a tracklet at either end from which its motion is taken: a walker's full step, so that the gait averages out."""
MOTION_MEMORY_S = 2.0
"""s; a predicted path comes to rest exponentially, because people turn and stop."""
MAX_SIZE_RATIO = 1.5
"""Of the heights on either side of a gap; occlusion of the legs explains about so much."""
STRANGER_AREA = 10.0
"""Square body heights over which a stranger may appear instead: so large is a picture of 16 by 9 in which people are .4
of its height. A path predicted well is evidence against that; see `_motion_ratio`."""
GATE_SIGMAS = 2.45
"""The gate of motion holds 19 of 20 returns, which is so many deviations of a normal distribution in the plane."""
MAX_OVERLAP = 0.3
"""Of two mean boxes, as a share of the smaller: more, and they may be two boxes of one body, not two people."""
MAX_STAY_S = 1.0
"""s; over a cut at which nobody moved, who is seen before it and who is seen after it may be so far apart."""
PAIRS_AT_ONCE = 1_000_000
"""Gaps measured at a time: a bound on memory."""
ROWS_AT_ONCE = 512
"""Embeddings compared with all others at a time: likewise."""

Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityParams:
    """See `identity` in conf/base.yaml."""

    max_gap_s: Distance
    gap_motion: Distance
    gap_motion_per_s: Distance
    shot_max_s: Distance
    candidates: Count
    wrong_joins: Annotated[float, Gt(0), Le(0.5)]

    def __post_init__(self) -> None:
        check(self)

    @property
    def surety(self) -> float:
        """What a log-likelihood ratio and the prior odds must make together."""
        return round(float(np.log((1 - self.wrong_joins) / self.wrong_joins)), 3)


@dataclass(frozen=True, slots=True)
class Tracklet:
    """What is known of one tracklet when it is linked.

    shot: its shot's index. intervals: (M, 2) int64, rising half-open runs of frames of the video in which it has a row,
    filled and held ones included. head_ns, head_boxes: (H,), (H, 4): its first boxes, END_S of them; tail_ns,
    tail_boxes: its last ones; all of them as a camera that stands still sees them. body, face: mean unit vectors, each
    of one embedding space, or None. body_steadiness, face_steadiness: how alike it stays (cores.likeness.steadiness),
    nan where that is not known. first_box, mean_box: (4,) in the picture. ends: the shots in which it begins and
    ends, where it goes over several and `shot` is a number that no other has; None: its shot.
    """

    shot: int
    intervals: NDArray[np.int64]
    head_ns: NDArray[np.int64]
    head_boxes: NDArray[np.float32]
    tail_ns: NDArray[np.int64]
    tail_boxes: NDArray[np.float32]
    body: NDArray[np.float32] | None
    face: NDArray[np.float32] | None
    first_box: NDArray[np.float32]
    mean_box: NDArray[np.float64]
    body_steadiness: float = float("nan")
    face_steadiness: float = float("nan")
    ends: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """L candidate pairs of tracklets, as indices; `a` appeared first.

    a, b: (L,) int64.
    kind: (L,) 'gap' (in one shot, or in shots of one place, at most max_gap_s apart), 'stay' (a gap over a cut at which
        the light changed and nobody moved, so that bodies say nothing) or 'shot' (all others).
    gap_s: (L,) s from the end of one to the beginning of the other, 0 where they interleave.
    motion: (L,) body heights between the predicted and the true place. size: (L,) ratio of heights, at least 1. Both
    nan where kind is 'shot'. body_similarity, face_similarity: (L,) cosines; nan where one has no embedding.
    score: (L,) natural log-likelihood ratio of being one person, all evidence together; nan where there was nothing to
    compare. joined: (L,) bool, one person in the end. why: (L,) in a word.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    kind: NDArray[np.str_]
    gap_s: NDArray[np.float64]
    motion: NDArray[np.float64]
    size: NDArray[np.float64]
    body_similarity: NDArray[np.float64]
    face_similarity: NDArray[np.float64]
    score: NDArray[np.float64]
    joined: NDArray[np.bool_]
    why: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.a)


def summarise(
    shot_index: int,
    shot: ShotFrames,
    knots: Knots,
    occupied: Intervals,
    bodies: Sequence[NDArray[np.float32] | None],
    faces: Sequence[NDArray[np.float32] | None],
    steadiness: NDArray[np.float64] | None = None,
    mean_boxes: NDArray[np.float64] | None = None,
    steady_boxes: NDArray[np.float32] | None = None,
) -> list[Tracklet]:
    """The tracklets 0, 1, 2… of one shot; `bodies` and `faces` hold one mean unit vector, or None, for each.

    steadiness: (T, 2) of body and face, nan where it is not known. mean_boxes: (T, 4), where `knots` are but the ends.
    steady_boxes: (K, 4) those of `knots` as a camera that stands still sees them, where it does not.
    """
    if steadiness is None:
        steadiness = np.full((len(bodies), 2), np.nan)
    if steady_boxes is None:
        steady_boxes = knots.boxes
    end_ns = int(END_S * 1e9)
    tracklets = []
    for index, (body, face) in enumerate(zip(bodies, faces, strict=True)):
        first, stop = np.searchsorted(knots.tracklets, (index, index + 1))
        times_ns, boxes = shot.times_ns[knots.frames[first:stop] - shot.start], steady_boxes[first:stop]
        seen = knots.boxes[first:stop]
        head = slice(0, np.searchsorted(times_ns, times_ns[0] + end_ns, side="right"))
        tail = slice(np.searchsorted(times_ns, times_ns[-1] - end_ns), None)
        first, stop = np.searchsorted(occupied.tracklets, (index, index + 1))
        spans = np.stack([occupied.starts[first:stop], occupied.ends[first:stop]], axis=1)
        steady = steadiness[index].tolist()
        mean_box = seen.mean(axis=0, dtype=np.float64) if mean_boxes is None else mean_boxes[index]
        ends = (times_ns[head], boxes[head], times_ns[tail], boxes[tail])
        tracklets.append(Tracklet(shot_index, spans, *ends, body, face, seen[0], mean_box, *steady))
    return tracklets


def link(
    tracklets: Sequence[Tracklet],
    params: IdentityParams,
    likenesses: Likenesses | None = None,
    scenes: Scenes | None = None,
) -> tuple[Links, NDArray[np.int64]]:
    """Links between the tracklets of one video, and the person of each: (N,) int64 labels 0, 1, 2…

    likenesses: what `calibrate` gives, and what it gives by default from what is known of any embedder. scenes: which
    shots show one place; None: no cut is known to. Persons are
    labelled and links ordered by first appearance, whatever the order of `tracklets`.
    """
    order = sorted(range(len(tracklets)), key=lambda index: _appearance(tracklets[index]))
    ordered = [tracklets[index] for index in order]
    likenesses = likenesses or calibrate(ordered, WIDE)
    shots = np.array([tracklet.shot for tracklet in ordered], np.int64)
    intervals = [tracklet.intervals for tracklet in ordered]
    links, labels = join(score(ordered, params, scenes), shots, intervals, params, likenesses)
    places = np.array(order, np.int64)
    persons = np.empty(len(tracklets), np.int64)
    persons[places] = labels
    return replace(links, a=places[links.a], b=places[links.b]), persons


def _appearance(tracklet: Tracklet) -> tuple:
    """Sorts as cores.number does; the rest only tells tracklets apart that no detector would give."""
    left, top, right, bottom = tracklet.first_box.tolist()
    vectors = [b"" if vector is None else vector.tobytes() for vector in (tracklet.body, tracklet.face)]
    ends = (tracklet.tail_ns.tolist(), tracklet.tail_boxes.tolist(), tracklet.head_boxes.tolist())
    return (int(tracklet.intervals[0, 0]), left, top, right, bottom, tracklet.intervals.tolist(), ends, vectors)


# --- calibrating -----------------------------------------------------------------------------------------------------


def calibrate(tracklets: Sequence[Tracklet], priors: Likenesses) -> Likenesses:
    """What body and face are worth in a video, from its own tracklets and what is known of the embedders.

    The ends of one tracklet are one person, tracklets that share a frame are two; how often two of different shots are
    one person is what explains all of their similarities best. No knob of `identity` changes it.
    """
    # Sums over many pairs depend on their order in the last bits.
    ordered = sorted(tracklets, key=_appearance)
    a, b = _seen_together(ordered)
    boxes = np.array([tracklet.mean_box for tracklet in ordered]).reshape(-1, 4)
    clear = overlap_of_smaller(boxes[a], boxes[b]) <= MAX_OVERLAP
    a, b = a[clear], b[clear]
    shots = np.array([tracklet.shot for tracklet in ordered], np.int64)
    found = {}
    for kind, prior in priors.items():
        vectors, known = _stack([getattr(tracklet, kind) for tracklet in ordered])
        same = np.array([getattr(tracklet, f"{kind}_steadiness") for tracklet in ordered], np.float64)
        same = same[~np.isnan(same)]
        two = np.flatnonzero(known[a] & known[b])
        other = _similarity(vectors, known, a[two], b[two])
        counted = len(np.unique([a[two], b[two]]))
        likeness = Likeness(
            Spread.of(same, len(same)).towards(prior.same), Spread.of(other, counted).towards(prior.other)
        )
        found[kind] = likeness.with_share(*_pairs_over_shots(vectors, known, shots))
    return found


def _seen_together(tracklets: Sequence[Tracklet]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (a, b), a < b, that share a frame."""
    runs = np.concatenate([np.zeros((0, 2), np.int64), *(tracklet.intervals for tracklet in tracklets)])
    owners = np.repeat(np.arange(len(tracklets)), [len(tracklet.intervals) for tracklet in tracklets])
    order = np.argsort(runs[:, 0], kind="stable")
    runs, owners = runs[order], owners[order]
    counts = np.searchsorted(runs[:, 0], runs[:, 1]) - np.arange(len(runs)) - 1  # those that begin before it ends
    first = np.repeat(np.arange(len(runs)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    low, high = np.minimum(owners[first], owners[second]), np.maximum(owners[first], owners[second])
    return np.divmod(np.unique(low * len(tracklets) + high), max(len(tracklets), 1))


def _pairs_over_shots(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], shots: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The similarities of all pairs of different shots, to 0.001, and how many pairs have each."""
    counts = np.zeros(2001, np.int64)
    rows = np.flatnonzero(known)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block, later = rows[start : start + ROWS_AT_ONCE], rows[start:]
        steps = np.rint(np.clip(vectors[block] @ vectors[later].T, -1, 1) * 1000).astype(np.int64) + 1000
        once = (np.arange(len(later)) > np.arange(len(block))[:, None]) & (shots[block][:, None] != shots[later])
        counts += np.bincount(steps[once], minlength=2001)
    seen = np.flatnonzero(counts)
    return seen / 1000 - 1, counts[seen]


# --- measuring -------------------------------------------------------------------------------------------------------


def score(tracklets: Sequence[Tracklet], params: IdentityParams, scenes: Scenes | None = None) -> Links:
    """Measure the candidate pairs; nothing is decided yet. `tracklets` are in order of first appearance.

    A cut at which one place goes on is no border to what may follow over a gap.

    Candidates are, for each tracklet, the `candidates` that follow it best inside the shot within max_gap_s or any
    shorter time (`best_gaps`), the nearest by body within shot_max_s in other shots, and the nearest by face.
    """
    shots = np.array([tracklet.shot for tracklet in tracklets], np.int64)
    first_us = microseconds(np.array([tracklet.head_ns[0] for tracklet in tracklets], np.int64) / 1e9)
    last_us = microseconds(np.array([tracklet.tail_ns[-1] for tracklet in tracklets], np.int64) / 1e9)
    body, has_body = _stack([tracklet.body for tracklet in tracklets])
    face, has_face = _stack([tracklet.face for tracklet in tracklets])

    def may_be_one_body(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        near = apart_us(first_us, last_us, a, b) <= as_microseconds(params.shot_max_s)
        return has_body[b] & (shots[a] != shots[b]) & near

    def may_be_one_face(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        return has_face[b] & ((shots[a] != shots[b]) | (apart_us(first_us, last_us, a, b) > 0))

    ends = np.array([tracklet.ends or (tracklet.shot,) * 2 for tracklet in tracklets], np.int64).reshape(-1, 2)
    places, lights = (scenes.places[ends], scenes.lights[ends]) if scenes else (ends, np.zeros_like(ends))
    gap_a, gap_b, motion, size = _gaps(tracklets, places, first_us, last_us, params)
    gap_kinds = np.where(lights[gap_a, 1] == lights[gap_b, 0], GAP, STAY)
    count = len(tracklets)
    gap_keys = gap_a * count + gap_b
    by_body = _nearest(body, has_body, may_be_one_body, params.candidates)
    by_face = _nearest(face, has_face, may_be_one_face, params.candidates)
    shot_keys = np.setdiff1d(np.concatenate([by_body, by_face]), gap_keys)

    keys = np.concatenate([gap_keys, shot_keys])
    unknown = np.full(len(shot_keys), np.nan)
    order = np.argsort(keys)
    a, b = np.divmod(keys[order], max(count, 1))
    return Links(
        a=a,
        b=b,
        kind=np.concatenate([gap_kinds, np.repeat(SHOT, len(shot_keys))])[order],
        gap_s=np.round(apart_us(first_us, last_us, a, b) / 1e6, 6),
        motion=np.concatenate([motion, unknown])[order],
        size=np.concatenate([size, unknown])[order],
        body_similarity=_similarity(body, has_body, a, b),
        face_similarity=_similarity(face, has_face, a, b),
        score=np.full(len(keys), np.nan),
        joined=np.zeros(len(keys), np.bool_),
        why=np.full(len(keys), "", dtype="U16"),
    )


def microseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Times as the tables have them, in whole microseconds."""
    return np.rint(np.round(seconds, 6) * 1e6).astype(np.int64)


def as_microseconds(limit_s: float) -> int:
    """The longest whole number of microseconds within a limit in s."""
    return int(round(limit_s * 1e9) // 1000)


def apart_us(
    first_us: NDArray[np.int64], last_us: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """us from the end of one tracklet to the beginning of the other, whichever is earlier; 0 where they interleave.

    first_us, last_us: (N,) when each was first and last seen. a, b: indices of the same shape as the result.
    """
    return np.maximum(0, np.maximum(first_us[a] - last_us[b], first_us[b] - last_us[a]))


def best_gaps(
    a: NDArray[np.int64], b: NDArray[np.int64], gap_s: NDArray[np.float64], motion: NDArray[np.float64], candidates: int
) -> NDArray[np.int64]:
    """Positions of those successors of each `a` to which it has fewer than `candidates` better ones that are no later.

    Better is less motion, where a longer gap excuses more; of equals the one that appeared first. No pair gives way to
    a later one: a shorter limit of the gap leaves exactly those pairs that are within it.
    """
    worth = motion / (1 + gap_s)
    order = np.lexsort((b, worth, gap_s, a))
    num_sooner = np.arange(len(order)) - np.searchsorted(a[order], a[order])
    chosen = num_sooner < candidates
    borders = np.append(np.flatnonzero(num_sooner == 0), len(order))
    for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        if end - start > candidates:
            chosen[start:end] = _is_among_best(worth[order[start:end]], b[order[start:end]], candidates)
    return order[chosen]


def _is_among_best(worths: NDArray[np.float64], names: NDArray[np.int64], candidates: int) -> list[bool]:
    """Of each of some pairs, whether it is among the `candidates` least when it comes."""
    least: list[tuple[float, int]] = []
    found = []
    for pair in zip(worths.tolist(), names.tolist(), strict=True):
        place = bisect(least, pair)
        found.append(place < candidates)
        if found[-1]:
            least.insert(place, pair)
            del least[candidates:]
    return found


def _stack(vectors: Sequence[NDArray[np.float32] | None]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, D) with zeros for None, and which are there; double precision, so that rounding hides how sums are made."""
    known = np.array([vector is not None for vector in vectors], np.bool_)
    width = next((len(vector) for vector in vectors if vector is not None), 0)
    stacked = np.zeros((len(vectors), width))
    for row, vector in enumerate(vectors):
        if vector is not None:
            stacked[row] = vector
    return stacked, known


def _similarity(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(L,) cosines rounded to 0.001; nan where one is unknown."""
    result = np.full(len(a), np.nan, np.float64)
    both = np.flatnonzero(known[a] & known[b])
    for block in np.array_split(both, len(both) // 20_000 + 1):
        result[block] = np.einsum("ld,ld->l", vectors[a[block]], vectors[b[block]])
    return result.round(3)


def _nearest(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], allowed: Allowed, candidates: int
) -> NDArray[np.int64]:
    """Keys a * N + b, a < b, of pairs of which one is among the `candidates` most similar that the other may have.

    Of equally similar ones those that appeared first.
    """
    count = len(vectors)
    keys = [np.zeros(0, np.int64)]
    rows = np.flatnonzero(known)
    for block in (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)):
        similarity = np.round(vectors[block] @ vectors.T, 3)
        a, b = np.broadcast_arrays(block[:, None], np.arange(count)[None, :])
        similarity[~allowed(a, b) | (a == b)] = -np.inf
        wanted = min(candidates, count)
        last = np.partition(similarity, count - wanted, axis=1)[:, count - wanted, None]
        nearer, tie = similarity > last, similarity == last
        chosen = nearer | (tie & (np.cumsum(tie, axis=1) <= wanted - nearer.sum(axis=1, keepdims=True)))
        chosen &= np.isfinite(similarity)
        a, b = a[chosen], b[chosen]
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
    return np.unique(np.concatenate(keys))


def _gaps(
    tracklets: Sequence[Tracklet],
    places: NDArray[np.int64],
    first_us: NDArray[np.int64],
    last_us: NDArray[np.int64],
    params: IdentityParams,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs (a, b) where b begins in the place in which a ends, at most max_gap_s later; motion and size, to 0.001.

    places: (N, 2) of the shots in which each begins and ends. Of each a the best.
    """
    heads = _Ends.of([(tracklet.head_ns, tracklet.head_boxes, 0) for tracklet in tracklets])
    tails = _Ends.of([(tracklet.tail_ns, tracklet.tail_boxes, -1) for tracklet in tracklets])
    found: list[tuple[NDArray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    max_gap_us = as_microseconds(params.max_gap_s)
    for a, b in _successions(places[:, 0], places[:, 1], first_us, last_us, max_gap_us):
        gap_s = np.round((first_us[b] - last_us[a]) / 1e6, 6)
        reach_s = (MOTION_MEMORY_S * (1 - np.exp(-gap_s / MOTION_MEMORY_S)))[:, None]
        step = heads.places[b] - tails.places[a]
        forward = np.linalg.norm(step - tails.velocities[a] * reach_s, axis=1)
        backward = np.linalg.norm(step - heads.velocities[b] * reach_s, axis=1)
        heights = np.stack([tails.heights[a], heads.heights[b]])
        motion = np.round((forward + backward) / heights.sum(axis=0), 3)
        size = np.round(heights.max(axis=0) / heights.min(axis=0), 3)
        best = best_gaps(a, b, gap_s, motion, params.candidates)
        found.append((a[best], b[best], motion[best], size[best]))
    a, b, motion, size = (np.concatenate(column) for column in zip(*found, strict=True))
    return a, b, motion, size


def _successions(
    begins_in: NDArray[np.int64],
    ends_in: NDArray[np.int64],
    first_us: NDArray[np.int64],
    last_us: NDArray[np.int64],
    max_gap_us: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs (a, b) with 0 < first_us[b] - last_us[a] <= max_gap_us, b beginning in the shot in which a ends.

    Some a's at a time, rising within a shot.
    """
    for shot in np.unique(ends_in):
        before, after = np.flatnonzero(ends_in == shot), np.flatnonzero(begins_in == shot)
        starts = np.argsort(first_us[after], kind="stable")
        begun_us = first_us[after][starts]
        low = np.searchsorted(begun_us, last_us[before], side="right")
        counts = np.searchsorted(begun_us, last_us[before] + max_gap_us, side="right") - low
        blocks = np.cumsum(counts) // PAIRS_AT_ONCE
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            a = np.repeat(here, counts[here])
            offset = np.arange(len(a)) - np.repeat(np.cumsum(counts[here]) - counts[here], counts[here])
            yield before[a], after[starts[low[a] + offset]]


@dataclass(frozen=True, slots=True)
class _Ends:
    """One end of each tracklet. places: (N, 2) px. velocities: (N, 2) px/s. heights: (N,) px."""

    places: NDArray[np.float64]
    velocities: NDArray[np.float64]
    heights: NDArray[np.float64]

    @classmethod
    def of(cls, ends: Sequence[tuple[NDArray[np.int64], NDArray[np.float32], int]]) -> Self:
        """From (times_ns, boxes, index of the outermost box) of each."""
        motions = [_motion(times_ns, boxes.astype(np.float64), outermost) for times_ns, boxes, outermost in ends]
        places, velocities, heights = zip(*motions, strict=True) if motions else ((), (), ())
        shape = (len(motions), 2)
        return cls(np.reshape(places, shape), np.reshape(velocities, shape), np.array(heights, np.float64))


def _motion(
    times_ns: NDArray[np.int64], boxes: NDArray[np.float64], outermost: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Place and velocity of the box's centre at the outermost time, and its height.

    Medians (the Theil-Sen line), so that a few boxes that shrink on the way into an occlusion do not turn the path.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    seconds = (times_ns - times_ns[outermost]) / 1e9
    height = max(float(np.median(boxes[:, 3] - boxes[:, 1])), 1.0)
    later, earlier = np.tril_indices(len(seconds), -1)
    if len(later) == 0:
        return centres[0], np.zeros(2), height
    slopes = (centres[later] - centres[earlier]) / (seconds[later] - seconds[earlier])[:, None]
    velocity = np.median(slopes, axis=0)
    return np.median(centres - velocity * seconds[:, None], axis=0), velocity, height


# --- deciding --------------------------------------------------------------------------------------------------------


class _Groups:
    """Which tracklets are one person so far, and in which frames each person is seen."""

    def __init__(self, intervals: Sequence[NDArray[np.int64]]) -> None:
        self.of = np.arange(len(intervals))
        self._borders: list[list[int]] = [each.ravel().tolist() for each in intervals]
        self._first = np.array([each[0, 0] for each in intervals], np.int64)
        self._end = np.array([each[-1, 1] for each in intervals], np.int64)
        self._together: list[dict[int, bool]] = [{} for _ in intervals]

    def seen_together(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(P,) whether two groups share a frame: then they are two people."""
        found = (self._end[a] > self._first[b]) & (self._end[b] > self._first[a])
        near = np.flatnonzero(found)
        pairs = zip(a[near].tolist(), b[near].tolist(), strict=True)
        found[near] = [self._are_seen_together(*pair) for pair in pairs]
        return found

    def _are_seen_together(self, a: int, b: int) -> bool:
        known = self._together[a].get(b)
        if known is None:
            known = _overlap(self._borders[a], self._borders[b])
            self._together[a][b] = self._together[b][a] = known
        return known

    def merge(self, a: int, b: int) -> None:
        """Make one person of two groups, unless they are two people."""
        if self._are_seen_together(a, b):
            return
        keep, gone = min(a, b), max(a, b)
        apart = {other for group in (keep, gone) for other, seen in self._together[group].items() if seen}
        for group in (keep, gone):
            for other in self._together[group]:
                del self._together[other][group]
            self._together[group] = {}
        for other in apart:  # who was seen with one of them was seen with both
            self._together[keep][other] = self._together[other][keep] = True

        borders = self._borders[keep] = sorted(self._borders[keep] + self._borders[gone])
        self._first[keep], self._end[keep] = borders[0], borders[-1]
        self.of[self.of == gone] = keep


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two rising lists of half-open intervals, start, end, start, end…, have a frame in common."""
    fewer, more = (a, b) if len(a) < len(b) else (b, a)
    for start, end in zip(fewer[::2], fewer[1::2], strict=True):
        place = bisect(more, start)
        if place % 2 or (place < len(more) and more[place] < end):
            return True
    return False


def join(
    links: Links,
    shots: NDArray[np.int64],
    intervals: Sequence[NDArray[np.int64]],
    params: IdentityParams,
    likenesses: Likenesses,
) -> tuple[Links, NDArray[np.int64]]:
    """Decide who is one person, from measured links and what a similarity is worth in this video alone.

    shots: (N,) and intervals: N x (M, 2), of the tracklets in order of first appearance. Returns the links with score,
    joined and why, and the person of each tracklet: (N,) labels 0, 1, 2… in order of first appearance.
    """
    groups = _Groups(intervals)
    elsewhere = shots[links.a] != shots[links.b]
    near = elsewhere & (links.gap_s <= params.shot_max_s)
    scores, verdicts, is_gap = _judge(links, elsewhere, near, params, likenesses)

    open_gaps = np.flatnonzero(is_gap & (verdicts == ""))
    open_gaps = open_gaps[~groups.seen_together(links.a[open_gaps], links.b[open_gaps])]
    _join_gaps(links, open_gaps, scores - params.surety, groups)
    face = _Evidence(links, links.face_similarity, likenesses["face"], params)
    _join_rounds(face, None, groups)
    body = _Evidence(links, np.where(near, links.body_similarity, np.nan), likenesses["body"], params)
    _join_rounds(body, face, groups)

    ends = groups.of[links.a], groups.of[links.b]
    joined = ends[0] == ends[1]
    why = np.select(
        [joined & (verdicts == ""), joined, groups.seen_together(*ends), verdicts == ""],
        ["alike", "through others", "seen together", "unsure"],
        verdicts,
    )
    _, persons = np.unique(groups.of, return_inverse=True)
    return replace(links, score=scores, joined=joined, why=why.astype(np.str_)), persons.astype(np.int64)


def _judge(
    links: Links,
    elsewhere: NDArray[np.bool_],
    near: NDArray[np.bool_],
    params: IdentityParams,
    likenesses: Likenesses,
) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.bool_]]:
    """The score of every link by itself, what speaks against it ('': nothing), and whether it is judged as a gap.

    Over a cut in one place somebody may follow as over a gap; where that fails, looks decide as over any other cut.
    """
    by_face, by_body = ~np.isnan(links.face_similarity), ~np.isnan(links.body_similarity)
    face = np.where(by_face, likenesses["face"].ratio(links.face_similarity), 0.0)
    body = np.where(by_body, likenesses["body"].ratio(links.body_similarity), 0.0)
    gap, stay = links.kind != SHOT, links.kind == STAY

    gap_looks = face + np.where(stay, 0.0, body)
    reach = params.gap_motion + params.gap_motion_per_s * links.gap_s
    gap_total: NDArray[np.float64] = gap_looks + np.where(gap, _motion_ratio(links.motion, reach), 0.0)
    # A gap is never bridged by motion alone: the tracker has done what motion can, and what is left goes wrong by it.
    # No tracker goes over a cut, so that motion may where nobody moved.
    gap_blind = ~by_face & ~by_body & ~stay
    gap_verdicts = np.select(
        [
            links.gap_s > np.where(stay, min(MAX_STAY_S, params.max_gap_s), params.max_gap_s),
            links.size > MAX_SIZE_RATIO,
            gap_blind,
            by_face & (face < -params.surety),
            gap_looks < 0,
            (gap_total < params.surety) & (gap_looks >= params.surety),
            gap_total < params.surety,
        ],
        ["too late", "other size", "no appearance", "other face", "unlike", "too far", "unsure"],
        "",
    )
    looks: NDArray[np.float64] = face + np.where(near, body, 0.0)
    blind = ~by_face & ~(by_body & near)
    odds = np.where(by_face, likenesses["face"].prior_odds, likenesses["body"].prior_odds)
    verdicts = np.select(
        [blind, by_face & (face < -params.surety), looks < 0, looks + odds < params.surety],
        ["too late", "other face", "unlike", "unsure"],
        "",
    )
    is_gap = gap & (~elsewhere | (gap_verdicts == ""))
    total: NDArray[np.float64] = np.where(is_gap, gap_total, looks)
    total[np.where(is_gap, gap_blind, blind)] = np.nan
    return np.round(total, 3), np.where(is_gap, gap_verdicts, verdicts), is_gap


def _motion_ratio(motion: NDArray[np.float64], gate: NDArray[np.float64]) -> NDArray[np.float64]:
    """(L,) log-likelihood ratio of a return `motion` body heights from where it was predicted.

    Who returns is spread normally around that place, a stranger evenly over STRANGER_AREA.
    """
    variance = np.maximum(gate / GATE_SIGMAS, 0.001) ** 2
    return np.log(STRANGER_AREA / (2 * np.pi * variance)) - motion**2 / (2 * variance)


def _join_gaps(links: Links, rows: NDArray[np.int64], scores: NDArray[np.float64], groups: _Groups) -> None:
    """Bridge gaps: of all ways to give each tracklet at most one successor and one predecessor, the best."""
    if len(rows):
        for row in rows[_assign(links.a[rows], links.b[rows], scores[rows])]:
            groups.merge(int(groups.of[links.a[row]]), int(groups.of[links.b[row]]))


def _assign(a: NDArray[np.int64], b: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the pairs that make the greatest sum of scores, each a and each b once; solved part by part."""
    from scipy.optimize import linear_sum_assignment  # a second, which who only reads a configuration need not wait
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, left = np.unique(a, return_inverse=True)
    _, right = np.unique(b, return_inverse=True)
    num_left = int(left.max()) + 1
    size = num_left + int(right.max()) + 1
    graph = coo_array((np.ones(len(a)), (left, num_left + right)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    chosen = []
    order = np.argsort(part[left], kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(part[left][order])) + 1):
        lefts, row = np.unique(left[positions], return_inverse=True)
        rights, column = np.unique(right[positions], return_inverse=True)
        worth = np.zeros((len(lefts), len(rights)))
        position = np.full(worth.shape, -1)
        worth[row, column] = 0.001 + scores[positions]  # a bridge at the very threshold is still one
        position[row, column] = positions
        match = position[linear_sum_assignment(worth, maximize=True)]
        chosen.append(match[match >= 0])
    return np.concatenate(chosen)


class _Evidence:
    """How alike groups are by one kind of embedding: as their known pairs of tracklets are on average."""

    def __init__(
        self, links: Links, similarity: NDArray[np.float64], likeness: Likeness, params: IdentityParams
    ) -> None:
        known = ~np.isnan(similarity)
        self._a, self._b, self._similarity = links.a[known], links.b[known], similarity[known]
        self._compared = np.unique(np.concatenate([self._a, self._b]))
        self._candidates = params.candidates
        self._likeness = likeness
        self.surety = params.surety
        self.odds_against = -likeness.prior_odds

    def between(self, groups: _Groups) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Of each pair of groups a < b with a known pair: a * N + b, rising; log-likelihood ratio; is enough known?

        Where few of many pairs are known, they are the nearest ones, and flatter.
        """
        different = groups.of[self._a] != groups.of[self._b]  # and who is one person once remains so
        self._a, self._b, self._similarity = self._a[different], self._b[different], self._similarity[different]
        ends = groups.of[self._a], groups.of[self._b]
        pairs = np.minimum(*ends) * len(groups.of) + np.maximum(*ends)
        order = np.lexsort((-self._similarity, pairs))
        keys, starts, index, count = np.unique(pairs[order], return_index=True, return_inverse=True, return_counts=True)
        nearer = np.arange(len(order)) - starts[index] < (count[index] + 1) // 2
        totals = np.bincount(index[nearer], self._similarity[order][nearer], minlength=len(keys))
        means = np.round(totals / ((count + 1) // 2), 3)
        low, high = np.divmod(keys, max(len(groups.of), 1))
        sizes = np.bincount(groups.of[self._compared], minlength=len(groups.of))
        enough = 2 * count >= np.minimum(np.minimum(sizes[low], sizes[high]), self._candidates)
        return keys, self._likeness.ratio(means), enough


def _join_rounds(evidence: _Evidence, other: _Evidence | None, groups: _Groups) -> None:
    """Merge mutual nearest neighbours, round after round, until no two groups are alike enough.

    Where `other` evidence knows two groups, it counts as well, and must not be sure that they are two people.
    """
    merged = True
    while merged:
        merged = False
        keys, ratios, enough = evidence.between(groups)
        unlike = keys[ratios < 0]
        if other is not None:
            more_keys, more, _ = other.between(groups)
            _, ours, theirs = np.intersect1d(keys, more_keys, assume_unique=True, return_indices=True)
            ratios[ours] += more[theirs]
            unlike = np.union1d(unlike, more_keys[more < -evidence.surety])
        alike = np.flatnonzero(enough & ~np.isin(keys, unlike))
        a, b = np.divmod(keys[alike], max(len(groups.of), 1))
        apart = groups.seen_together(a, b)
        for pair in _partners(a[~apart], b[~apart], ratios[alike][~apart], unlike, groups, evidence):
            groups.merge(*pair)
            merged = True


def _partners(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    ratios: NDArray[np.float64],
    unlike: NDArray[np.int64],
    groups: _Groups,
    evidence: _Evidence,
) -> list[tuple[int, int]]:
    """Those pairs (P,) of groups a < b of which each is the other's nearest, and surely enough; the most alike first.

    Against it stand the prior odds, and whoever is alike as well but another person than the nearest. unlike: rising
    a * N + b of pairs that are two people by their looks.
    """
    count = len(groups.of)
    ends, others, worths = np.append(a, b), np.append(b, a), np.append(ratios, ratios)
    order = np.lexsort((others, -worths, ends))
    ends, others, worths = ends[order], others[order], worths[order]
    starts = np.searchsorted(ends, ends)
    nearest = np.full(count, -1)
    nearest[ends] = others[starts]
    mutual = nearest[nearest[ends]] == ends

    rivals = np.flatnonzero(mutual & (others != nearest[ends]))
    partner, rival = nearest[ends[rivals]], others[rivals]
    keys = np.minimum(partner, rival) * count + np.maximum(partner, rival)
    is_other = np.isin(keys, unlike)
    is_other[~is_other] = groups.seen_together(partner[~is_other], rival[~is_other])
    rivals = rivals[is_other]

    def is_sure(place: int) -> bool:
        first, stop = np.searchsorted(rivals, (place, np.searchsorted(ends, ends[place], side="right")))
        against = np.append(evidence.odds_against, worths[rivals[first:stop]])
        return round(float(worths[place]) - float(np.logaddexp.reduce(against)), 3) >= evidence.surety

    sure = np.zeros(count, np.bool_)
    firsts = np.flatnonzero(mutual & (others == nearest[ends]))
    sure[ends[firsts]] = [is_sure(place) for place in firsts.tolist()]
    own = np.flatnonzero((nearest[a] == b) & (nearest[b] == a) & sure[a] & sure[b])
    own = own[np.lexsort((b[own], a[own], -ratios[own]))]
    return list(zip(a[own].tolist(), b[own].tolist(), strict=True))
