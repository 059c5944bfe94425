"""Choose the crops of one cell in which a face is worth searching.

Detections that overlap in neighbouring analysed frames form a chain, and a few crops of each chain are kept. Values
are rounded before they decide, and ties go to the earlier detection, so the choice depends only on the cell.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, at_edges, clip, pairwise_intersection, pairwise_iou
from pipeline.cores.ranges import Count, Distance, Share, check

CUT = 27.0
"""Mean change of hue, saturation and lightness per pixel that breaks every chain: PySceneDetect's default for a cut.

Only chains depend on it, not shots. One break too many costs one crop.
"""
BORDER_PX = 2
MIN_SCORE_IN_FRONT = 0.4
"""Weaker boxes hide nobody, because many are parts or duplicates of others."""
AT_BORDER = 0.5
"""Factor of a crop's quality if the person extends beyond the left, right or upper border of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateParams:
    """The knobs `candidates.*` of conf/base.yaml: which crops are searched for faces."""

    chain_iou: Share
    max_per_chain: Count
    look: str | None
    look_score: Share
    look_px: Annotated[int, Ge(32)]
    min_width_px: Distance
    min_score: Share
    top_fraction: Annotated[float, Gt(0), Le(1)]
    margin: Distance
    max_px: Annotated[int, Ge(32)]
    jpeg_quality: Annotated[int, Ge(1), Le(100)]
    max_per_cell: Count

    def __post_init__(self) -> None:
        check(self)


def is_worth_a_crop(boxes: Boxes, scores: NDArray[np.floating], params: CandidateParams) -> NDArray[np.bool_]:
    """Return (N,) bool: whether people with (N, 4) `boxes` and (N,) `scores` are large and sure enough for a crop."""
    widths = np.round(boxes[:, 2].astype(np.float64) - boxes[:, 0], 1)
    return (widths >= params.min_width_px) & (_steps(scores) >= params.min_score)


def crop_boxes(boxes: Boxes, width: int, height: int, params: CandidateParams) -> Boxes:
    """Return the upper part of each of (N, 4) `boxes` with a margin, in whole pixels inside the picture: (N, 4).

    It is at least as high as the box is wide, because the upper half of a head-and-shoulders box would end at the
    mouth.
    """
    low = boxes.astype(np.float64)
    sizes = low[:, 2:] - low[:, :2]
    margins = params.margin * sizes
    top_left = low[:, :2] - margins
    right = low[:, 2] + margins[:, 0]
    heights = np.minimum(np.maximum(params.top_fraction * sizes[:, 1], sizes[:, 0]), sizes[:, 1])
    bottom = low[:, 1] + heights + margins[:, 1]
    corners = np.column_stack([np.floor(np.round(top_left, 1)), np.ceil(np.round(np.column_stack([right, bottom]), 1))])
    return clip(corners.astype(np.float32), width, height)


def visibility(
    boxes: Boxes, crops: Boxes, scores: NDArray[np.floating], width: int, height: int
) -> NDArray[np.float64]:
    """Return for each of (N, 4) `crops` how far its person is visible: (N,) in [0, 1].

    It is 1 minus the largest share of the crop that one nearer person's box covers, halved if the person touches the
    left, right or upper border. The lower border does not count, because people in close-ups end there.

    boxes: all people of the frame. A person is nearer if the box ends lower in the picture.
    """
    is_other = ~np.eye(len(boxes), dtype=bool)
    is_in_front = (boxes[:, None, 3] > boxes[None, :, 3]) & (_steps(scores) >= MIN_SCORE_IN_FRONT)[:, None] & is_other
    covered = pairwise_intersection(boxes, crops) / np.maximum(area(crops), 1e-6)
    hidden = np.where(is_in_front, covered, 0).max(axis=0, initial=0)
    is_cut = at_edges(boxes, width, height, BORDER_PX)[:, :3].any(axis=1)
    return _steps((1 - np.clip(hidden, 0, 1)) * np.where(is_cut, AT_BORDER, 1))


def rate(
    scores: NDArray[np.floating], crops: Boxes, sharpness: NDArray[np.floating], visible: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the quality of N crops: score x log area x log sharpness x visibility: (N,), in steps of 0.001."""
    return _steps(scores * np.log1p(area(crops).astype(np.float64)) * np.log1p(sharpness) * visible)


def chain(frames: NDArray[np.int64], boxes: Boxes, min_iou: float) -> NDArray[np.int64]:
    """Return the chain number of each of one cell's detections: (N,) int64.

    Two boxes of neighbouring frames are linked if each is the other's best match and their IoU is at least
    `min_iou`.

    frames: (N,), rising. Number of each detection's analysed frame. Neighbours differ by one, and a cut skips a
        number.
    """
    chains = np.arange(len(frames))
    spans = np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames)) + 1)
    for before, after in pairwise(spans):
        if frames[after[0]] - frames[before[0]] != 1:
            continue
        iou = _steps(pairwise_iou(boxes[before], boxes[after]))
        best = iou.argmax(axis=1)
        mutual = (iou.argmax(axis=0)[best] == np.arange(len(before))) & (iou.max(axis=1) >= min_iou)
        chains[after[best[mutual]]] = chains[before[mutual]]
    return chains


def next_checks(
    chains: NDArray[np.int64],
    face_checks: NDArray[np.floating],
    qualities: NDArray[np.floating],
    params: CandidateParams,
) -> NDArray[np.int64]:
    """Return the indices of the crops whose quick face check can change what `best_of_chains` keeps: (K,).

    A face check is at most 1, so the quality is what score x quality can reach. A crop needs no check once
    max_per_chain crops of its chain are surely better. Call it until it returns none: each answer may spare others.

    face_checks: (N,) scores, nan for the crops that were not checked.
    """
    sure = np.nan_to_num(_steps(face_checks), nan=-1.0)
    reach = _steps(qualities)
    worth = np.where(sure >= params.look_score, _steps(sure * qualities), -np.inf)
    unchecked = np.flatnonzero(np.isnan(face_checks))
    order = unchecked[np.lexsort((unchecked, -reach[unchecked], chains[unchecked]))]
    ranks = _ranks(chains[order])
    # In each chain the rank counts the better crops whose checks are also open.
    is_better = (chains[order, None] == chains[None]) & (worth[None] > reach[order, None])
    return order[is_better.sum(axis=1) + ranks < params.max_per_chain]


def best_of_chains(
    chains: NDArray[np.int64],
    face_checks: NDArray[np.floating],
    qualities: NDArray[np.floating],
    params: CandidateParams,
) -> NDArray[np.int64]:
    """Return the indices of the crops to keep, (K,): the first choice of each chain, better ones first.

    If a quick face check reaches look_score, the best such crops are kept, up to max_per_chain, by score x quality.
    Otherwise the crop with the highest quality is kept. A crop that is not chosen among some of a cell's detections
    is not chosen among all of them, so crops can be dropped while the cell goes on.

    face_checks: (N,) scores of the quick face check, nan where it was not made.
    """
    sure = np.nan_to_num(_steps(face_checks), nan=-1.0)
    shows = sure >= params.look_score
    worth = np.where(shows, _steps(sure * qualities), _steps(qualities))
    order = np.lexsort((np.arange(len(chains)), -worth, ~shows, chains))
    ranks = _ranks(chains[order])
    keep = (ranks == 0) | (shows[order] & (ranks < params.max_per_chain))
    order, ranks = order[keep], ranks[keep]
    return order[np.lexsort((order, -worth[order], ~shows[order], ranks))]


def choose(
    chains: NDArray[np.int64],
    face_checks: NDArray[np.floating],
    qualities: NDArray[np.floating],
    params: CandidateParams,
) -> NDArray[np.int64]:
    """Return the ascending indices of a whole cell's candidates: `best_of_chains`, at most max_per_cell."""
    return np.sort(best_of_chains(chains, face_checks, qualities, params)[: params.max_per_cell])


def _ranks(chains: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (N,) ranks of crops within their chains, from 0. `chains`: rising, each in order of choice."""
    starts = np.flatnonzero(np.diff(chains, prepend=-1))
    return np.arange(len(chains)) - np.repeat(starts, np.diff(starts, append=len(chains)))


def _steps(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round to steps of 0.001, so that the last bits decide nothing."""
    return np.round(np.asarray(values, np.float64), 3)
