"""Decide which tracklets are the same person, only from measured pairs. This is the third step.

Gaps are joined first, jointly. Then faces and then bodies are joined in rounds.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.groups import Groups
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.rounds import Evidence, join_rounds
from pipeline.cores.link.verdicts import judge


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
    verdicts = judge(links, shots, groups.num_beside, params, likenesses)
    scores, reasons = verdicts.scores, verdicts.reasons

    open_gaps = np.flatnonzero(verdicts.is_gap & (reasons == ""))
    open_gaps = open_gaps[~groups.share_frames(links.a[open_gaps], links.b[open_gaps])]
    _join_gaps(links, open_gaps, verdicts.odds - verdicts.needed, groups)
    _fill_bridges(links, open_gaps, verdicts.odds, groups)
    face = Evidence(links, links.face_similarity, likenesses["face"], params, params.surety)
    join_rounds(face, None, groups)
    near = params.compares_bodies(shots[links.a] != shots[links.b], links.gap_s)
    bodies = np.where(near, links.body_similarity, np.nan)
    body = Evidence(links, bodies, likenesses["body"], params, params.shot_surety)
    join_rounds(body, face, groups)

    ends = groups.of[links.a], groups.of[links.b]
    joined = ends[0] == ends[1]
    why = np.select(
        [joined & (reasons == ""), joined, groups.share_frames(*ends), reasons == ""],
        ["alike", "through others", "seen together", "others fit"],
        reasons,
    )
    _, persons = np.unique(groups.of, return_inverse=True)
    return replace(links, score=scores, joined=joined, why=why.astype(np.str_)), persons.astype(np.int64)


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
