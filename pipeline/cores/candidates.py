"""Choose, within one cell, the crops that are worth looking for a face in.

Detections that overlap in neighbouring analysed frames form a chain; of each chain a few crops are kept. Whatever
decides is rounded first, and ties go to the earlier detection, so the choice depends on the cell alone.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, clip, pairwise_intersection, pairwise_iou
from pipeline.cores.ranges import Count, Distance, Share, check

CUT = 27.0
"""Mean change of hue, saturation and lightness per pixel that breaks every chain: PySceneDetect's default for a cut.

Only chains depend on it, not the shots: one break too many costs a crop.
"""
BORDER_PX = 2
MIN_SCORE_IN_FRONT = 0.4
"""Weaker boxes hide no one: many are parts or doubles of others."""
AT_BORDER = 0.5
"""What a crop is worth whose person goes on beyond the left, right or upper border of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateParams:
    """See `candidates` in conf/base.yaml."""

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


def is_worth_a_look(boxes: Boxes, scores: NDArray[np.floating], params: CandidateParams) -> NDArray[np.bool_]:
    """Whether people with (N, 4) `boxes` and (N,) `scores` are near and sure enough for a crop: (N,)."""
    widths = np.round(boxes[:, 2].astype(np.float64) - boxes[:, 0], 1)
    return (widths >= params.min_width_px) & (_steps(scores) >= params.min_score)


def crop_boxes(boxes: Boxes, width: int, height: int, params: CandidateParams) -> Boxes:
    """The upper part of each of (N, 4) `boxes` with a margin, in whole pixels inside the picture: (N, 4).

    It is at least as high as the box is wide: of heads and shoulders the upper half would end at the mouth.
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
    """How much of each of (N, 4) `crops`, of the people `boxes` of one frame, shows the person alone: (N,) in [0, 1].

    Less by the largest share that lies in the box of a nearer person (who stands lower in the picture), and where the
    person goes on beyond the border. The lower border does not count: people in close-ups end there.
    """
    is_other = ~np.eye(len(boxes), dtype=bool)
    is_in_front = (boxes[:, None, 3] > boxes[None, :, 3]) & (_steps(scores) >= MIN_SCORE_IN_FRONT)[:, None] & is_other
    covered = pairwise_intersection(boxes, crops) / np.maximum(area(crops), 1e-6)
    hidden = np.where(is_in_front, covered, 0).max(axis=0, initial=0)
    is_cut = (boxes[:, 0] <= BORDER_PX) | (boxes[:, 1] <= BORDER_PX) | (boxes[:, 2] >= width - BORDER_PX)
    return _steps((1 - np.clip(hidden, 0, 1)) * np.where(is_cut, AT_BORDER, 1))


def rate(
    scores: NDArray[np.floating], crops: Boxes, sharpness: NDArray[np.floating], visible: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The quality of N crops: score x log area x log sharpness x visibility: (N,), in steps of 0.001."""
    return _steps(scores * np.log1p(area(crops).astype(np.float64)) * np.log1p(sharpness) * visible)


def chain(frames: NDArray[np.int64], boxes: Boxes, min_iou: float) -> NDArray[np.int64]:
    """Number the chains of one cell's detections: (N,) int64.

    frames: (N,), rising, the number of each detection's analysed frame; neighbours differ by one, so a cut is a number
    left out. Two boxes of neighbouring frames are linked where each is the other's best and they overlap by at least
    `min_iou`.
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


def best_of_chains(
    chains: NDArray[np.int64],
    glances: NDArray[np.floating],
    qualities: NDArray[np.floating],
    params: CandidateParams,
) -> NDArray[np.int64]:
    """The indices of the crops to keep, of each chain's first choice first, better ones before others: (K,).

    glances: (N,), how sure a cheap look was of a face, nan where nobody looked. Where any reaches look_score, the best
    such, up to max_per_chain, by glance x quality; otherwise the one with the highest quality. What is not chosen among
    some of a cell's detections is not chosen among all of them either, so crops can be dropped as the cell goes on.
    """
    sure = np.nan_to_num(_steps(glances), nan=-1.0)
    shows = sure >= params.look_score
    worth = np.where(shows, _steps(sure * qualities), _steps(qualities))
    order = np.lexsort((np.arange(len(chains)), -worth, ~shows, chains))
    starts = np.flatnonzero(np.diff(chains[order], prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    keep = (ranks == 0) | (shows[order] & (ranks < params.max_per_chain))
    order, ranks = order[keep], ranks[keep]
    return order[np.lexsort((order, -worth[order], ~shows[order], ranks))]


def choose(
    chains: NDArray[np.int64],
    glances: NDArray[np.floating],
    qualities: NDArray[np.floating],
    params: CandidateParams,
) -> NDArray[np.int64]:
    """The candidates of a whole cell: `best_of_chains`, at most max_per_cell of them, indices ascending."""
    return np.sort(best_of_chains(chains, glances, qualities, params)[: params.max_per_cell])


def _steps(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """In steps of 0.001, so that the last bits decide nothing."""
    return np.round(np.asarray(values, np.float64), 3)
