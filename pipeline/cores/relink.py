"""Which of the links that are written down other parameters would have measured, and whether all of those are there.

Links are bounded: of each tracklet the nearest few (`score`). Thresholds do not choose them, so any threshold can be
moved on what is written down. Fewer candidates, a shorter `max_gap_s` or a shorter `shot_max_s` choose from the same
pairs in the same order, and `select` finds what they would have chosen, to the last row. One thing can be wanting:
where the list of bodies of a tracklet was full, one that is now too far away in time may have taken the place of one
that is not. `num_crowded_out` counts these tracklets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.link import GAP, SHOT, IdentityParams, Links, apart_us, as_microseconds, best_gaps

LIMITS = ("max_gap_s", "shot_max_s", "candidates")
"""The parameters that choose what is measured; all others judge it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """When N tracklets were seen, in order of first appearance.

    shots: (N,) int64. first_us, last_us: (N,) int64, the first and the last time that the tracker saw each.
    intervals: N x (M, 2) int64, as of cores.link.Tracklet.
    """

    shots: NDArray[np.int64]
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    intervals: Sequence[NDArray[np.int64]]


def widened(before: IdentityParams, after: IdentityParams) -> list[str]:
    """The names of the limits that were widened: what lies between the two was never measured."""
    return [name for name in LIMITS if getattr(after, name) > getattr(before, name)]


def select(links: Links, seen: Seen, params: IdentityParams) -> Links:
    """What `score` gives under `params`, whose limits are no wider than those under which `links` were measured."""
    soon = _late_us(links.gap_s) <= as_microseconds(params.max_gap_s)
    rows = np.flatnonzero((links.kind == GAP) & soon)
    gaps = np.zeros(len(links), np.bool_)
    gaps[rows[best_gaps(links.a[rows], links.b[rows], links.gap_s[rows], links.motion[rows], params.candidates)]] = True

    bodies, faces = _comparable(links, seen, params)
    chosen = gaps.copy()
    for similarity, allowed in ((links.body_similarity, bodies), (links.face_similarity, faces)):
        for _, nearest in _nearest(links, similarity, np.flatnonzero(allowed), params.candidates):
            chosen[nearest] = True
    kept = Links(**{field.name: getattr(links, field.name)[chosen] for field in fields(Links)})
    by_looks = ~gaps[chosen]
    return replace(
        kept,
        kind=np.where(by_looks, SHOT, GAP),
        motion=np.where(by_looks, np.nan, kept.motion),
        size=np.where(by_looks, np.nan, kept.size),
    )


def num_crowded_out(links: Links, seen: Seen, before: IdentityParams, after: IdentityParams) -> int:
    """How many tracklets lack a pair under `after`, because one further away than its `shot_max_s` took the place.

    `links` were measured under `before`, whose limits are no narrower than those of `after`.
    """
    known = ~np.isnan(links.body_similarity)
    has_body = np.zeros(len(seen.shots), np.bool_)
    has_body[links.a[known]] = has_body[links.b[known]] = True
    bodies, _ = _comparable(links, seen, before)
    near = _late_us(links.gap_s) <= as_microseconds(after.shot_max_s)
    lacking = 0
    for tracklet, rows in _nearest(links, links.body_similarity, np.flatnonzero(bodies), before.candidates):
        there = int(near[rows].sum())
        if len(rows) == before.candidates and there < after.candidates:
            lacking += there < _num_near(seen, tracklet, has_body, after.shot_max_s)
    return lacking


def _late_us(gap_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(gap_s * 1e6).astype(np.int64)


def _comparable(links: Links, seen: Seen, params: IdentityParams) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(L,) bool each: pairs of which `score` may compare the bodies, the faces, to find the nearest."""
    late_us = _late_us(links.gap_s)
    elsewhere = seen.shots[links.a] != seen.shots[links.b]
    near = late_us <= as_microseconds(params.shot_max_s)
    bodies = ~np.isnan(links.body_similarity) & elsewhere & near
    return bodies, ~np.isnan(links.face_similarity) & (elsewhere | (late_us > 0))


def _nearest(
    links: Links, similarity: NDArray[np.float64], rows: NDArray[np.int64], candidates: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each tracklet of `rows` with the rows of the `candidates` most similar to it; of equal ones the earlier."""
    own = np.concatenate([links.a[rows], links.b[rows]])
    other = np.concatenate([links.b[rows], links.a[rows]])
    rows = np.concatenate([rows, rows])
    order = np.lexsort((other, -similarity[rows], own))
    for tracklet, sorted_rows in _by(own[order], rows[order]):
        yield tracklet, sorted_rows[:candidates]


def _by(keys: NDArray[np.int64], values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The values of each key, in the order in which they come."""
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    yield from zip(found.tolist(), np.split(values[order], starts[1:]), strict=False)


def _num_near(seen: Seen, tracklet: int, has_body: NDArray[np.bool_], shot_max_s: float) -> int:
    everyone = np.arange(len(seen.shots))
    late_us = apart_us(seen.first_us, seen.last_us, np.full(len(everyone), tracklet), everyone)
    in_time = late_us <= as_microseconds(shot_max_s)
    return int((in_time & has_body & (seen.shots != seen.shots[tracklet])).sum())
