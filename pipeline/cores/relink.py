"""Select the stored links that other parameters would have scored, and check that none is missing.

The number of links is bounded, because each tracklet has its nearest few (`score`). Thresholds do not choose them,
so stored links allow any threshold. Fewer candidates, a shorter `max_gap_s` or a shorter `shot_max_s` choose from
the same pairs in the same order, so `select` finds exactly the rows that they would choose. One thing can be
missing. If the list of a tracklet's bodies was full, one that is now too far away in time may have displaced one
that is not. `num_crowded_out` counts these tracklets. Pairs inside a shot beyond `max_gap_s` are stored only as far as
`max_absence_s` reached, so both limits must stay, or there must be no absences any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.link.gaps import best_gaps
from pipeline.cores.link.pairs import SHOT, Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.times import apart_us, as_microseconds

LIMITS = ("max_gap_s", "shot_max_s", "candidates")
"""The parameters that choose which pairs are scored. All others judge the scores."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The times at which N tracklets were seen, in order of first appearance.

    shots: (N,) int64.
    first_us, last_us: (N,) int64. First and last time at which the tracker saw each.
    intervals: N arrays (M, 2) int64, as in cores.link.tracklets.Tracklet.
    """

    shots: NDArray[np.int64]
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    intervals: Sequence[NDArray[np.int64]]


def select(links: Links, presence: Presence, params: IdentityParams) -> Links:
    """Return what `score` gives under `params`. Its limits must not be wider than those of `links`."""
    soon = _late_us(links.gap_s) <= as_microseconds(params.max_gap_s)
    rows = np.flatnonzero((links.kind != SHOT) & soon)
    gaps = np.zeros(len(links), np.bool_)
    gaps[rows[best_gaps(links.a[rows], links.b[rows], links.gap_s[rows], links.motion[rows], params.candidates)]] = True

    bodies, absences, faces = _comparable(links, presence, params)
    chosen = gaps.copy()
    compared = ((links.body_similarity, bodies), (links.body_similarity, absences), (links.face_similarity, faces))
    for similarity, allowed in compared:
        for _, nearest in _nearest(links, similarity, np.flatnonzero(allowed), params.candidates):
            chosen[nearest] = True
    kept = Links(**{field.name: getattr(links, field.name)[chosen] for field in fields(Links)})
    by_looks = ~gaps[chosen]
    return replace(
        kept,
        kind=np.where(by_looks, SHOT, kept.kind),
        motion=np.where(by_looks, np.nan, kept.motion),
        size=np.where(by_looks, np.nan, kept.size),
        size_limit=np.where(by_looks, np.nan, kept.size_limit),
    )


def num_crowded_out(links: Links, presence: Presence, before: IdentityParams, after: IdentityParams) -> int:
    """Return the number of tracklets that lack a pair under `after`, because a pair beyond its `shot_max_s` took the
    place.

    `links` were scored under `before`, whose limits are not narrower than those of `after`.
    """
    known = ~np.isnan(links.body_similarity)
    has_body = np.zeros(len(presence.shots), np.bool_)
    has_body[links.a[known]] = has_body[links.b[known]] = True
    bodies, _, _ = _comparable(links, presence, before)
    near = _late_us(links.gap_s) <= as_microseconds(after.shot_max_s)
    lacking = 0
    for tracklet, rows in _nearest(links, links.body_similarity, np.flatnonzero(bodies), before.candidates):
        there = int(near[rows].sum())
        if len(rows) == before.candidates and there < after.candidates:
            lacking += there < _num_near(presence, tracklet, has_body, after.shot_max_s)
    return lacking


def _late_us(gap_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(gap_s * 1e6).astype(np.int64)


def _comparable(
    links: Links, presence: Presence, params: IdentityParams
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return three (L,) bool arrays: the pairs whose bodies `score` may compare to find the nearest in other shots and
    inside the shot, and those whose faces it may compare."""
    late_us = _late_us(links.gap_s)
    elsewhere = presence.shots[links.a] != presence.shots[links.b]
    near = late_us <= as_microseconds(params.shot_max_s)
    has_bodies = ~np.isnan(links.body_similarity)
    away = (late_us > as_microseconds(params.max_gap_s)) & (late_us <= as_microseconds(params.max_absence_s))
    bodies, absences = has_bodies & elsewhere & near, has_bodies & ~elsewhere & away
    return bodies, absences, ~np.isnan(links.face_similarity) & (elsewhere | (late_us > 0))


def _nearest(
    links: Links, similarity: NDArray[np.float64], rows: NDArray[np.int64], candidates: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each tracklet of `rows` with the rows of its `candidates` most similar ones. Ties go to the earlier."""
    tracklets = np.concatenate([links.a[rows], links.b[rows]])
    partners = np.concatenate([links.b[rows], links.a[rows]])
    rows = np.concatenate([rows, rows])
    order = np.lexsort((partners, -similarity[rows], tracklets))
    for tracklet, sorted_rows in _by(tracklets[order], rows[order]):
        yield tracklet, sorted_rows[:candidates]


def _by(keys: NDArray[np.int64], values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Return the values of each key, in order."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(values[order], starts[1:]), strict=False)


def _num_near(presence: Presence, tracklet: int, has_body: NDArray[np.bool_], shot_max_s: float) -> int:
    everyone = np.arange(len(presence.shots))
    late_us = apart_us(presence.first_us, presence.last_us, np.full(len(everyone), tracklet), everyone)
    in_time = late_us <= as_microseconds(shot_max_s)
    return int((in_time & has_body & (presence.shots != presence.shots[tracklet])).sum())
