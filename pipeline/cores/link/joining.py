"""Decide which tracklets are the same person, only from measured pairs. This is the third step.

Gaps are joined first, jointly. Then faces and then bodies are joined in rounds.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.groups import Groups
from pipeline.cores.link.pairs import SHOT, STAY, Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.rounds import Evidence, join_rounds

MAX_SIZE_RATIO = 1.5
"""Largest ratio of the heights on either side of a gap. Occlusion of the legs explains about this much."""
STRANGER_AREA = 10.0
"""The area in which a stranger may appear, in square body heights. A picture of 16 by 9 in which people are .4 of
its height has this area. A well predicted path is evidence against a stranger (`_motion_ratio`)."""
GATE_SIGMAS = 2.45
"""The radius of the motion gate in standard deviations. In a normal distribution in the plane, 19 of 20 returns lie
inside."""
MAX_STAY_S = 1.0
"""Longest time, in seconds, from the last box before a cut at which nobody moved to the first box after it."""


def join(
    links: Links,
    shots: NDArray[np.int64],
    intervals: Sequence[NDArray[np.int64]],
    params: IdentityParams,
    likenesses: Likenesses,
) -> tuple[Links, NDArray[np.int64]]:
    """Decide who is the same person, only from measured links and from how much a similarity means in this video.

    shots: (N,). The shots of the tracklets, in order of first appearance.
    intervals: N x (M, 2). The intervals of the tracklets.

    Returns the links with score, joined and why, and the person of each tracklet. Persons are (N,) labels 0, 1, 2…
    in order of first appearance.
    """
    groups = Groups(intervals)
    elsewhere = shots[links.a] != shots[links.b]
    near = elsewhere & (links.gap_s <= params.shot_max_s)
    scores, verdicts, is_gap = _judge(links, elsewhere, near, params, likenesses)

    open_gaps = np.flatnonzero(is_gap & (verdicts == ""))
    open_gaps = open_gaps[~groups.share_frames(links.a[open_gaps], links.b[open_gaps])]
    _join_gaps(links, open_gaps, scores - params.surety, groups)
    _fill_bridges(links, open_gaps, scores, groups)
    face = Evidence(links, links.face_similarity, likenesses["face"], params)
    join_rounds(face, None, groups)
    body = Evidence(links, np.where(near, links.body_similarity, np.nan), likenesses["body"], params)
    join_rounds(body, face, groups)

    ends = groups.of[links.a], groups.of[links.b]
    joined = ends[0] == ends[1]
    why = np.select(
        [joined & (verdicts == ""), joined, groups.share_frames(*ends), verdicts == ""],
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

    gap_appearance = face + np.where(stay, 0.0, body)
    reach = params.gap_motion + params.gap_motion_per_s * links.gap_s
    gap_total: NDArray[np.float64] = gap_appearance + np.where(gap, _motion_ratio(links.motion, reach), 0.0)
    # Motion alone never bridges a gap, because the tracker has already used motion, and what is left is mostly wrong.
    # No tracker crosses a cut, so motion alone may bridge one at which nobody moved.
    gap_blind = ~by_face & ~by_body & ~stay
    gap_verdicts = np.select(
        [
            links.gap_s > np.where(stay, min(MAX_STAY_S, params.max_gap_s), params.max_gap_s),
            links.size > MAX_SIZE_RATIO,
            gap_blind,
            by_face & (face < -params.surety),
            gap_appearance < 0,
            (gap_total < params.surety) & (gap_appearance >= params.surety),
            gap_total < params.surety,
        ],
        ["too late", "other size", "no appearance", "other face", "unlike", "too far", "unsure"],
        "",
    )
    appearance: NDArray[np.float64] = face + np.where(near, body, 0.0)
    blind = ~by_face & ~(by_body & near)
    odds = np.where(by_face, likenesses["face"].prior_odds, likenesses["body"].prior_odds)
    verdicts = np.select(
        [blind, by_face & (face < -params.surety), appearance < 0, appearance + odds < params.surety],
        ["too late", "other face", "unlike", "unsure"],
        "",
    )
    is_gap = gap & (~elsewhere | (gap_verdicts == ""))
    total: NDArray[np.float64] = np.where(is_gap, gap_total, appearance)
    total[np.where(is_gap, gap_blind, blind)] = np.nan
    return np.round(total, 3), np.where(is_gap, gap_verdicts, verdicts), is_gap


def _motion_ratio(motion: NDArray[np.float64], gate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (L,) log-likelihood ratios of a return `motion` body heights from the predicted place.

    People who return are normally distributed around that place, strangers evenly over STRANGER_AREA.
    """
    variance = np.maximum(gate / GATE_SIGMAS, 0.001) ** 2
    return np.log(STRANGER_AREA / (2 * np.pi * variance)) - motion**2 / (2 * variance)


def _join_gaps(links: Links, rows: NDArray[np.int64], scores: NDArray[np.float64], groups: Groups) -> None:
    """Bridge gaps by the best of all ways to give each tracklet at most one successor and one predecessor."""
    if len(rows):
        for row in rows[_assign(links.a[rows], links.b[rows], scores[rows])]:
            groups.merge(int(groups.of[links.a[row]]), int(groups.of[links.b[row]]))


def _fill_bridges(links: Links, rows: NDArray[np.int64], scores: NDArray[np.float64], groups: Groups) -> None:
    """Join what was seen inside a bridged gap with both of its sides.

    One bridge over the whole gap may weigh more than the two bridges to somebody seen in the middle, who would be left
    alone. Both bridges must be sure enough by themselves. The surest are filled first.
    """
    bridged = groups.of[links.a[rows]] == groups.of[links.b[rows]]
    after: dict[int, list[int]] = {}
    before: dict[int, dict[int, int]] = {}
    for row in rows[~bridged].tolist():
        after.setdefault(int(links.a[row]), []).append(row)
        before.setdefault(int(links.b[row]), {})[int(links.a[row])] = row
    fillings = []
    for a, b in zip(links.a[rows[bridged]].tolist(), links.b[rows[bridged]].tolist(), strict=True):
        for row in after.get(a, ()):
            middle = int(links.b[row])
            if (other := before.get(b, {}).get(middle)) is not None:
                fillings.append((-round(float(scores[row] + scores[other]), 3), a, middle))
    for _, a, middle in sorted(fillings):
        if groups.of[a] != groups.of[middle]:
            groups.merge(int(groups.of[a]), int(groups.of[middle]))


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
