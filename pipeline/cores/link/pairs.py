"""Measure the candidate pairs of tracklets. This is the second step. Nothing is decided here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.link.gaps import measure_gaps
from pipeline.cores.link.heights import size_limit
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.times import apart_us, as_microseconds, microseconds
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.link.vectors import nearest_pairs, similarity, stack
from pipeline.cores.place import Scenes

GAP, SHOT, STAY, SEAT = "gap", "shot", "stay", "seat"


@dataclass(frozen=True, slots=True)
class Links:
    """L candidate pairs of tracklets.

    a, b: (L,) int64. Indices of the tracklets. `a` appeared first.
    kind: (L,) 'gap' (in one shot, or in shots of one place, at most max_gap_s apart), 'stay' (a gap over a cut at
        which the light changed and nobody moved, so that bodies say nothing), 'seat' (over a jump in time inside one
        place, on either side of which both keep still) or 'shot' (all others).
    gap_s: (L,) seconds from the end of one to the beginning of the other. 0 if they interleave.
    motion: (L,) body heights between the predicted and the true place of the head. nan if kind is 'shot'.
    size: (L,) ratio of heights freed from perspective, at least 1. nan if kind is 'shot'.
    size_limit: (L,) the largest size that may be one person's in this video. nan if kind is 'shot'.
    body_similarity, face_similarity: (L,) cosines. nan if one has no embedding, or if only one body has colours.
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
    size_limit: NDArray[np.float64]
    body_similarity: NDArray[np.float64]
    face_similarity: NDArray[np.float64]
    score: NDArray[np.float64]
    joined: NDArray[np.bool_]
    why: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.a)


def spans_of(intervals: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the (N, 2) half-open ranges of frames from the first to the last of each tracklet."""
    return np.array([(runs[0, 0], runs[-1, 1]) for runs in intervals], np.int64).reshape(-1, 2)


def measure(tracklets: Sequence[Tracklet], params: IdentityParams, scenes: Scenes | None = None) -> Links:
    """Measure the candidate pairs. Nothing is decided yet. `tracklets` are in order of first appearance.

    A cut inside one place does not end a gap.

    A tracklet has four kinds of candidates. The first are the `candidates` best successors inside the shot within
    max_gap_s or any shorter time (`best_gaps`). The second are the nearest ones by body within shot_max_s in other
    shots, the third those within max_absence_s inside the shot. The fourth are the nearest ones by face.
    """
    shots = np.array([tracklet.shot for tracklet in tracklets], np.int64)
    first_us = microseconds(np.array([tracklet.head_ns[0] for tracklet in tracklets], np.int64) / 1e9)
    last_us = microseconds(np.array([tracklet.tail_ns[-1] for tracklet in tracklets], np.int64) / 1e9)
    body, has_body = stack([tracklet.body for tracklet in tracklets])
    face, has_face = stack([tracklet.face for tracklet in tracklets])

    def may_be_one_body(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        near = apart_us(first_us, last_us, a, b) <= as_microseconds(params.shot_max_s)
        return has_body[b] & (shots[a] != shots[b]) & near & (is_grey[a] == is_grey[b])

    def may_be_one_face(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        return has_face[b] & ((shots[a] != shots[b]) | (apart_us(first_us, last_us, a, b) > 0))

    def may_be_absent(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        late_us = apart_us(first_us, last_us, a, b)
        return (
            has_body[b]
            & (shots[a] == shots[b])
            & (late_us > as_microseconds(params.max_gap_s))
            & (late_us <= as_microseconds(params.max_absence_s))
        )

    ends = np.array([tracklet.ends or (tracklet.shot,) * 2 for tracklet in tracklets], np.int64).reshape(-1, 2)
    places, lights = ends, np.zeros_like(ends)
    moments, is_grey = lights, lights[:, 0] > 0
    if scenes:
        parts = scenes.parts(spans_of([tracklet.intervals for tracklet in tracklets]), ends)
        places, lights, moments = scenes.places[parts], scenes.lights[parts], scenes.moments[parts]
        is_grey = scenes.is_grey[parts[:, 0]]
    gap_a, gap_b, motion, size = measure_gaps(tracklets, places, moments, first_us, last_us, params)
    is_jump = moments[gap_a, 1] != moments[gap_b, 0]
    # A track may outlive a change of light by some boxes. Its embedding still shows it in the light before.
    is_one_light = (lights[gap_a, 1] == lights[gap_b, 0]) & (is_grey[gap_a] == is_grey[gap_b])
    gap_kinds = np.select([is_jump, is_one_light], [SEAT, GAP], STAY)
    count = len(tracklets)
    gap_keys = gap_a * count + gap_b
    by_body = nearest_pairs(body, has_body, may_be_one_body, params.candidates)
    no_keys = np.zeros(0, np.int64)
    compares_absences = params.max_absence_s > params.max_gap_s
    by_absence = nearest_pairs(body, has_body, may_be_absent, params.candidates) if compares_absences else no_keys
    by_face = nearest_pairs(face, has_face, may_be_one_face, params.candidates)
    shot_keys = np.setdiff1d(np.concatenate([by_body, by_absence, by_face]), gap_keys)

    keys = np.concatenate([gap_keys, shot_keys])
    unknown = np.full(len(shot_keys), np.nan)
    order = np.argsort(keys)
    a, b = np.divmod(keys[order], max(count, 1))
    body_similarity = np.where(is_grey[a] == is_grey[b], similarity(body, has_body, a, b), np.nan)
    return Links(
        a=a,
        b=b,
        kind=np.concatenate([gap_kinds, np.repeat(SHOT, len(shot_keys))])[order],
        gap_s=np.round(apart_us(first_us, last_us, a, b) / 1e6, 6),
        motion=np.concatenate([motion, unknown])[order],
        size=np.concatenate([size, unknown])[order],
        size_limit=np.concatenate([np.full(len(size), size_limit(tracklets)), unknown])[order],
        body_similarity=body_similarity,
        face_similarity=similarity(face, has_face, a, b),
        score=np.full(len(keys), np.nan),
        joined=np.zeros(len(keys), np.bool_),
        why=np.full(len(keys), "", dtype="U16"),
    )
