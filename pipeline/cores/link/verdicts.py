"""Judge each measured pair of tracklets by itself: its score, the reason against it, and how near the decision is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.pairs import SEAT, SHOT, STAY, Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.seats import seat_ratios

SIZE_DEVIATION = 0.115
"""Standard deviation of the logarithm of the ratio of heights over a gap for one person, on 13 clips (decision 28).
Only `Verdicts.margins` uses it."""
STRANGER_AREA = 10.0
"""The area in which a stranger may appear, in square body heights. A picture of 16 by 9 in which people are .4 of
its height has this area. A well predicted path is evidence against a stranger (`_motion_ratio`)."""
GATE_SIGMAS = 2.45
"""The radius of the motion gate in standard deviations. In a normal distribution in the plane, 19 of 20 returns lie
inside."""
ARRIVALS_S = 5.0
"""Whoever appears within this many seconds after somebody was last seen may be that person."""
MAX_STAY_S = 1.0
"""Longest time, in seconds, from the last box before a cut at which nobody moved to the first box after it."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The judgement of L pairs, each by itself.

    scores: (L,) natural log-likelihood ratios of one person to two, rounded to 0.001. nan if nothing could be compared.
    odds: (L,) log odds of one person to two. They are the scores and the prior odds.
    reasons: (L,) the first reason against a join, '' if there is none.
    is_gap: (L,) bool. Whether the pair is judged as a gap. A pair over a cut inside one place that fails as a gap is
        judged as over any other cut.
    needed: (L,) the least odds that join the pair.
    margins: (L,) how far the decision is away. Negative: the pair alone is not joined. It is the least of what each
        condition leaves: nats of evidence, or for the size standard deviations. nan if no evidence decides.
    """

    scores: NDArray[np.float64]
    odds: NDArray[np.float64]
    reasons: NDArray[np.str_]
    is_gap: NDArray[np.bool_]
    needed: NDArray[np.float64]
    margins: NDArray[np.float64]


def judge(
    links: Links,
    shots: NDArray[np.int64],
    num_beside: NDArray[np.int64],
    params: IdentityParams,
    likenesses: Likenesses,
) -> Verdicts:
    """Return the judgement of every pair.

    shots: (N,). The shots of the tracklets.
    num_beside: (N,). From groups.num_beside.
    """
    elsewhere = shots[links.a] != shots[links.b]
    near = params.compares_bodies(elsewhere, links.gap_s)
    by_face, by_body = ~np.isnan(links.face_similarity), ~np.isnan(links.body_similarity)
    face = np.where(by_face, likenesses["face"].ratio(links.face_similarity), 0.0)
    body = np.where(by_body, likenesses["body"].ratio(links.body_similarity), 0.0)
    gap, stay, seat = links.kind != SHOT, links.kind == STAY, links.kind == SEAT

    gap_appearance = face + np.where(stay, 0.0, body)
    reach = reach_of(links.gap_s, params)
    place = np.where(seat, seat_ratios(links, shots), _motion_ratio(links.motion, reach))
    # At a change of light or a jump in time it is the place that decides, whose ratios are bounded as they are.
    gap_needed = np.where(stay | seat, params.surety, params.gap_surety)
    gap_total: NDArray[np.float64] = gap_appearance + np.where(gap, place, 0.0)
    # At most one of those who appear after somebody was last seen is that person.
    against_each = np.where(stay | seat, 0.0, np.log(num_arrivals(links)).round(3))
    gap_odds = gap_total - against_each
    # Motion alone never bridges a gap, because the tracker has already used motion, and what is left is mostly wrong.
    # No tracker crosses a cut, so motion alone may bridge one at which nobody moved.
    gap_blind = ~by_face & ~by_body & ~stay & ~seat
    gap_late = links.gap_s > np.where(stay | seat, min(MAX_STAY_S, params.max_gap_s), params.max_gap_s)
    gap_reasons = np.select(
        [
            gap_late,
            links.size > links.size_limit,
            gap_blind,
            by_face & (face < -params.surety),
            gap_appearance < np.minimum(0.0, gap_needed),
            (gap_odds < gap_needed) & (gap_appearance - against_each >= gap_needed),
            gap_odds < gap_needed,
        ],
        ["too late", "other size", "no appearance", "other face", "unlike", "too far", "unsure"],
        "",
    )
    appearance: NDArray[np.float64] = face + np.where(near, body, 0.0)
    blind = ~by_face & ~(by_body & near)
    beside = np.minimum(num_beside[links.a], num_beside[links.b])
    against = [likenesses[kind].odds_against(beside) for kind in ("face", "body")]
    odds = appearance - np.where(by_face, *against)
    needed = np.where(by_body & near, params.shot_surety, params.surety)
    unlike = appearance < np.minimum(0.0, needed)
    reasons = np.select(
        [blind, by_face & (face < -params.surety), unlike, odds < needed],
        ["too late", "other face", "unlike", "unsure"],
        "",
    )
    # Where appearance says nothing about a cut, the reason is what the place says.
    is_gap = gap & (~elsewhere | (gap_reasons == "") | blind)
    total: NDArray[np.float64] = np.where(is_gap, gap_total, appearance)
    is_undecided = np.where(is_gap, gap_blind | gap_late, blind)
    total[np.where(is_gap, gap_blind, blind)] = np.nan

    face_left = np.where(by_face, face + params.surety, np.inf)
    size_left = (np.log(links.size_limit) - np.log(links.size)) / SIZE_DEVIATION
    gap_like = gap_appearance - np.minimum(0.0, gap_needed)
    gap_left = np.fmin(size_left, np.minimum(np.minimum(face_left, gap_like), gap_odds - gap_needed))
    like = appearance - np.minimum(0.0, needed)
    left = np.minimum(np.minimum(face_left, like), odds - needed)
    margins: NDArray[np.float64] = np.where(is_undecided, np.nan, np.where(is_gap, gap_left, left))
    odds = np.where(np.isnan(total), np.nan, np.where(is_gap, gap_odds, odds))
    return Verdicts(
        scores=np.round(total, 3),
        odds=odds,
        reasons=np.where(is_gap, gap_reasons, reasons),
        is_gap=is_gap,
        needed=np.where(is_gap, gap_needed, needed),
        margins=np.round(margins, 3),
    )


def reach_of(gap_s: NDArray[np.float64], params: IdentityParams) -> NDArray[np.float64]:
    """Return the (L,) body heights within which 19 of 20 people return after a gap."""
    return params.gap_motion + params.gap_motion_per_s * gap_s


def num_arrivals(links: Links) -> NDArray[np.int64]:
    """Return for each pair over a gap how many people appear in the place after `a` was last seen there: within
    ARRIVALS_S, or until `b` does. At least 1; it is 1 for other pairs.

    links: with all pairs over a gap, as `pairs.measure` returns them.
    """
    result = np.ones(len(links), np.int64)
    rows = np.flatnonzero(links.kind != SHOT)
    rows = rows[np.lexsort((links.gap_s[rows], links.a[rows]))]
    a, gap_s = links.a[rows], links.gap_s[rows]
    # The pairs of each `a` follow each other, the shortest gap first.
    longest = float(gap_s.max(initial=0)) + ARRIVALS_S + 1
    ends = np.searchsorted(a * longest + gap_s, a * longest + np.maximum(gap_s, ARRIVALS_S), side="right")
    result[rows] = ends - np.searchsorted(a, a)
    return result


def _motion_ratio(motion: NDArray[np.float64], gate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (L,) log-likelihood ratios of a return `motion` body heights from the predicted place.

    People who return are normally distributed around that place, strangers evenly over STRANGER_AREA.
    """
    variance = np.maximum(gate / GATE_SIGMAS, 0.001) ** 2
    return np.log(STRANGER_AREA / (2 * np.pi * variance)) - motion**2 / (2 * variance)
