"""Decide which tracklets of a video are the same person.

There are three steps. `calibrate` learns from the video how much a similarity means in it (cores.likeness). `score`
measures candidate pairs of tracklets (`Links`). Over a gap inside a shot it uses motion in both directions, size and
appearance, and over shots it uses face and body. `join` decides from these numbers and from the frames that
tracklets share, and from nothing else. So the rate of wrong joins can be changed long after the embeddings are gone.
Gaps are joined first, jointly. Then faces and then bodies are joined, as mutual nearest neighbours in rounds.

Evidence is added as log-likelihood ratios. Two tracklets are joined if the probability that they are two people is
at most `wrong_joins`. Two tracklets that share a frame, filled frames included, are two people. Whole groups are
checked for this before every merge. Tracklets stay apart if the evidence is not sure.

Numbers are rounded before they decide, and tracklets are first sorted by first appearance. So neither their order
nor their names change the result. Of equally near candidates the earlier one goes first, so that cores.relink finds
the same ones among the stored pairs.
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
from pipeline.cores.likeness import WIDE, DistanceStats, Likeness, Likenesses
from pipeline.cores.place import Scenes
from pipeline.cores.ranges import Count, Distance, check

GAP, SHOT, STAY = "gap", "shot", "stay"
END_S = 1.0
"""Seconds at either end of a tracklet from which its motion is measured: a full step of a walker, which averages the
    gait."""
MOTION_MEMORY_S = 2.0
"""Time constant, in seconds, with which a predicted path comes to rest exponentially, because people turn and stop."""
MAX_SIZE_RATIO = 1.5
"""Largest ratio of the heights on either side of a gap. Occlusion of the legs explains about this much."""
STRANGER_AREA = 10.0
"""The area in which a stranger may appear, in square body heights. A picture of 16 by 9 in which people are .4 of
its height has this area. A well predicted path is evidence against a stranger (`_motion_ratio`)."""
GATE_SIGMAS = 2.45
"""The radius of the motion gate in standard deviations. In a normal distribution in the plane, 19 of 20 returns lie
inside."""
MAX_OVERLAP = 0.3
"""Largest overlap of the mean boxes of two people, as a share of the smaller. Above it, both may show one body."""
MAX_STAY_S = 1.0
"""Longest time, in seconds, from the last box before a cut at which nobody moved to the first box after it."""
PAIRS_AT_ONCE = 1_000_000
"""The number of gaps that are measured at a time. It bounds the memory."""
ROWS_AT_ONCE = 512
"""The number of embeddings that are compared with all others at a time. It bounds the memory."""

Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityParams:
    """The knobs `identity` of conf/base.yaml."""

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
        """Return the least sum of a log-likelihood ratio and the prior log odds that joins two tracklets."""
        return round(float(np.log((1 - self.wrong_joins) / self.wrong_joins)), 3)


@dataclass(frozen=True, slots=True)
class Tracklet:
    """One tracklet as the linker needs it.

    shot: index of its shot. A number of its own if the tracklet spans several shots.
    intervals: (M, 2) int64. Rising half-open runs of the video's frames in which it has a row, filled or held ones
        included.
    head_ns, head_boxes: (H,) ns, (H, 4) px. Its boxes in the first END_S, as a still camera would see them.
    tail_ns, tail_boxes: (T,) ns, (T, 4) px. Its boxes in the last END_S, as a still camera would see them.
    body, face: mean unit vectors, each in one embedding space. None if there is none.
    first_box, mean_box: (4,) px in the picture.
    body_steadiness, face_steadiness: similarity of its own ends (cores.likeness.steadiness). nan if unknown.
    ends: the shots in which it begins and ends, if it spans several. None means `shot`.
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
    """L candidate pairs of tracklets.

    a, b: (L,) int64. Indices of the tracklets. `a` appeared first.
    kind: (L,) 'gap' (in one shot, or in shots of one place, at most max_gap_s apart), 'stay' (a gap over a cut at
        which the light changed and nobody moved, so that bodies say nothing) or 'shot' (all others).
    gap_s: (L,) seconds from the end of one to the beginning of the other. 0 if they interleave.
    motion: (L,) body heights between the predicted and the true place. nan if kind is 'shot'.
    size: (L,) ratio of heights, at least 1. nan if kind is 'shot'.
    body_similarity, face_similarity: (L,) cosines. nan if one has no embedding.
    score: (L,) natural log-likelihood ratio of being one person, from all evidence. nan if nothing could be
        compared.
    joined: (L,) bool. Whether both are one person in the end.
    why: (L,) the reason in a word.
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
    """Return the tracklets 0, 1, 2… of one shot.

    bodies, faces: one mean unit vector per tracklet, or None.
    steadiness: (T, 2) of body and face. nan if unknown.
    mean_boxes: (T, 4). Needed if `knots` holds only the ends of the tracklets.
    steady_boxes: (K, 4). The boxes of `knots` as a still camera would see them. Needed if the camera moves.
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
    """Return the links between the tracklets of one video, and the person of each: (N,) int64 labels 0, 1, 2…

    likenesses: the result of `calibrate`. By default it is computed from the video and the WIDE prior.
    scenes: the shots that show one place. None if no cut is known to stay in one place.

    Persons are labelled and links ordered by first appearance, whatever the order of `tracklets`.
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
    """Return a sort key that orders as cores.number does. Its other parts separate only tracklets that no detector
    yields."""
    left, top, right, bottom = tracklet.first_box.tolist()
    vectors = [b"" if vector is None else vector.tobytes() for vector in (tracklet.body, tracklet.face)]
    ends = (tracklet.tail_ns.tolist(), tracklet.tail_boxes.tolist(), tracklet.head_boxes.tolist())
    return (int(tracklet.intervals[0, 0]), left, top, right, bottom, tracklet.intervals.tolist(), ends, vectors)


# --- calibrating -----------------------------------------------------------------------------------------------------


def calibrate(tracklets: Sequence[Tracklet], priors: Likenesses) -> Likenesses:
    """Return how much body and face mean in a video, from its own tracklets and the priors of the embedders.

    The ends of one tracklet are one person, and tracklets that share a frame are two. The share of one person among
    pairs of different shots is the one that explains all of their similarities best. No knob of `identity` changes
    the result.
    """
    # The last bits of sums over many pairs depend on their order.
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
            DistanceStats.of(same, len(same)).towards(prior.same), DistanceStats.of(other, counted).towards(prior.other)
        )
        found[kind] = likeness.with_share(*_pairs_over_shots(vectors, known, shots))
    return found


def _seen_together(tracklets: Sequence[Tracklet]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs (a, b), a < b, that share a frame."""
    runs = np.concatenate([np.zeros((0, 2), np.int64), *(tracklet.intervals for tracklet in tracklets)])
    owners = np.repeat(np.arange(len(tracklets)), [len(tracklet.intervals) for tracklet in tracklets])
    order = np.argsort(runs[:, 0], kind="stable")
    runs, owners = runs[order], owners[order]
    counts = np.searchsorted(runs[:, 0], runs[:, 1]) - np.arange(len(runs)) - 1  # the runs that begin before it ends
    first = np.repeat(np.arange(len(runs)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    low, high = np.minimum(owners[first], owners[second]), np.maximum(owners[first], owners[second])
    return np.divmod(np.unique(low * len(tracklets) + high), max(len(tracklets), 1))


def _pairs_over_shots(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], shots: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the similarities of all pairs of different shots, in steps of 0.001, and the number of pairs with each."""
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
    """Measure the candidate pairs. Nothing is decided yet. `tracklets` are in order of first appearance.

    A cut inside one place does not end a gap.

    A tracklet has three kinds of candidates. The first are the `candidates` best successors inside the shot within
    max_gap_s or any shorter time (`best_gaps`). The second are the nearest ones by body within shot_max_s in other
    shots. The third are the nearest ones by face.
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
    """Return times as the tables hold them, in whole microseconds."""
    return np.rint(np.round(seconds, 6) * 1e6).astype(np.int64)


def as_microseconds(limit_s: float) -> int:
    """Return the largest whole number of microseconds within a limit in seconds."""
    return int(round(limit_s * 1e9) // 1000)


def apart_us(
    first_us: NDArray[np.int64], last_us: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the microseconds from the end of the earlier tracklet to the beginning of the later one, 0 if they
    interleave.

    first_us, last_us: (N,). The first and the last time at which each was seen.
    a, b: indices. They have the shape of the result.
    """
    return np.maximum(0, np.maximum(first_us[a] - last_us[b], first_us[b] - last_us[a]))


def best_gaps(
    a: NDArray[np.int64], b: NDArray[np.int64], gap_s: NDArray[np.float64], motion: NDArray[np.float64], candidates: int
) -> NDArray[np.int64]:
    """Return the positions of the best successors of each `a`: fewer than `candidates` others are better and no
    later.

    Less motion is better, and a longer gap excuses more of it. Of equals, the one that appeared first is better. No
    pair is displaced by a later one, so a shorter limit of the gap leaves exactly the pairs within it.
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
    """Return for each pair, in order of arrival, whether it is among the `candidates` smallest so far."""
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
    """Return (N, D) vectors with zeros for None, and which are known. Double precision hides the order of sums in
    rounding."""
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
    """Return (L,) cosines, rounded to 0.001. nan if one vector is unknown."""
    result = np.full(len(a), np.nan, np.float64)
    both = np.flatnonzero(known[a] & known[b])
    for block in np.array_split(both, len(both) // 20_000 + 1):
        result[block] = np.einsum("ld,ld->l", vectors[a[block]], vectors[b[block]])
    return result.round(3)


def _nearest(
    vectors: NDArray[np.float64], known: NDArray[np.bool_], allowed: Allowed, candidates: int
) -> NDArray[np.int64]:
    """Return the keys a * N + b, a < b, of pairs in which one tracklet is among the nearest of the other.

    The nearest are the `candidates` most similar ones that are allowed. Of equals, those that appeared first are
    chosen.
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
    """Return the best pairs (a, b) of each a where b begins in the place in which a ends, at most max_gap_s later.

    places: (N, 2). The places in which each begins and ends.

    The result also holds motion and size, rounded to 0.001.
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
    """Yield all pairs (a, b) with 0 < first_us[b] - last_us[a] <= max_gap_us where b begins in the shot in which a
    ends.

    Each block holds some values of a, rising within a shot.
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
    """One end of each tracklet.

    places: (N, 2) px.
    velocities: (N, 2) px/s.
    heights: (N,) px.
    """

    places: NDArray[np.float64]
    velocities: NDArray[np.float64]
    heights: NDArray[np.float64]

    @classmethod
    def of(cls, ends: Sequence[tuple[NDArray[np.int64], NDArray[np.float32], int]]) -> Self:
        """Return the ends from (times_ns, boxes, index of the outermost box) of each tracklet."""
        motions = [_motion(times_ns, boxes.astype(np.float64), outermost) for times_ns, boxes, outermost in ends]
        places, velocities, heights = zip(*motions, strict=True) if motions else ((), (), ())
        shape = (len(motions), 2)
        return cls(np.reshape(places, shape), np.reshape(velocities, shape), np.array(heights, np.float64))


def _motion(
    times_ns: NDArray[np.int64], boxes: NDArray[np.float64], outermost: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the place and velocity of the box's centre at the outermost time, and its height.

    These are medians (the Theil-Sen line), so that a few boxes that shrink before an occlusion do not turn the path.
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
    """The groups of tracklets that are one person so far, and the frames of each group."""

    def __init__(self, intervals: Sequence[NDArray[np.int64]]) -> None:
        self.of = np.arange(len(intervals))
        self._borders: list[list[int]] = [each.ravel().tolist() for each in intervals]
        self._first = np.array([each[0, 0] for each in intervals], np.int64)
        self._end = np.array([each[-1, 1] for each in intervals], np.int64)
        self._together: list[dict[int, bool]] = [{} for _ in intervals]

    def seen_together(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (P,) bool: whether two groups share a frame. Then they are two people."""
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
        """Merge two groups into one person, unless they share a frame."""
        if self._are_seen_together(a, b):
            return
        keep, gone = min(a, b), max(a, b)
        apart = {other for group in (keep, gone) for other, seen in self._together[group].items() if seen}
        for group in (keep, gone):
            for other in self._together[group]:
                del self._together[other][group]
            self._together[group] = {}
        for other in apart:  # a group that shares a frame with one of them shares a frame with both
            self._together[keep][other] = self._together[other][keep] = True

        borders = self._borders[keep] = sorted(self._borders[keep] + self._borders[gone])
        self._first[keep], self._end[keep] = borders[0], borders[-1]
        self.of[self.of == gone] = keep


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether two rising lists of half-open intervals, start, end, start, end…, have a common frame."""
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
    """Decide who is one person, only from measured links and from how much a similarity means in this video.

    shots: (N,). The shots of the tracklets, in order of first appearance.
    intervals: N x (M, 2). The intervals of the tracklets.

    Returns the links with score, joined and why, and the person of each tracklet. Persons are (N,) labels 0, 1, 2…
    in order of first appearance.
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
    """Return three things for every link: its score, the reason against it ('' for none), and whether it is judged
        as a gap.

    A link over a cut inside one place may be judged as a gap. If it fails as a gap, it is judged as over any other
    cut.
    """
    by_face, by_body = ~np.isnan(links.face_similarity), ~np.isnan(links.body_similarity)
    face = np.where(by_face, likenesses["face"].ratio(links.face_similarity), 0.0)
    body = np.where(by_body, likenesses["body"].ratio(links.body_similarity), 0.0)
    gap, stay = links.kind != SHOT, links.kind == STAY

    gap_looks = face + np.where(stay, 0.0, body)
    reach = params.gap_motion + params.gap_motion_per_s * links.gap_s
    gap_total: NDArray[np.float64] = gap_looks + np.where(gap, _motion_ratio(links.motion, reach), 0.0)
    # Motion alone never bridges a gap, because the tracker has already used motion, and what is left is mostly wrong.
    # No tracker crosses a cut, so motion alone may bridge one at which nobody moved.
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
    """Return (L,) log-likelihood ratios of a return `motion` body heights from the predicted place.

    People who return are normally distributed around that place, strangers evenly over STRANGER_AREA.
    """
    variance = np.maximum(gate / GATE_SIGMAS, 0.001) ** 2
    return np.log(STRANGER_AREA / (2 * np.pi * variance)) - motion**2 / (2 * variance)


def _join_gaps(links: Links, rows: NDArray[np.int64], scores: NDArray[np.float64], groups: _Groups) -> None:
    """Bridge gaps by the best of all ways to give each tracklet at most one successor and one predecessor."""
    if len(rows):
        for row in rows[_assign(links.a[rows], links.b[rows], scores[rows])]:
            groups.merge(int(groups.of[links.a[row]]), int(groups.of[links.b[row]]))


def _assign(a: NDArray[np.int64], b: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions of the pairs with the largest sum of scores, each a and each b once. Solve each component
    alone."""
    # SciPy takes a second to import, which commands that only read a configuration save.
    from scipy.optimize import linear_sum_assignment
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
        worth[row, column] = 0.001 + scores[positions]  # a bridge exactly at the threshold counts too
        position[row, column] = positions
        match = position[linear_sum_assignment(worth, maximize=True)]
        chosen.append(match[match >= 0])
    return np.concatenate(chosen)


class _Evidence:
    """The similarity of groups by one kind of embedding: the average of their known pairs of tracklets."""

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
        """Return for each pair of groups a < b with a known pair: a * N + b, rising; log-likelihood ratio; whether
        enough is known.

        If only few of many pairs are known, they are the nearest ones and overestimate the similarity.
        """
        different = groups.of[self._a] != groups.of[self._b]  # joined groups are never separated
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
    """Merge mutual nearest neighbours, round after round, until no two groups are similar enough.

    If `other` evidence knows a pair of groups, it is added, and must not be sure that they are two people.
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
    """Return those pairs (P,) of groups a < b in which each is surely the other's nearest, the most similar pair
    first.

    unlike: rising a * N + b of pairs that are two people by appearance.

    The prior odds count against a pair. So do other groups that are similar too but are not the same person as the
    nearest.
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
