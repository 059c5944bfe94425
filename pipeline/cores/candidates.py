"""Choose, within one cell, the crops that are worth looking for a face in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateParams:
    """See `candidates` in conf/base.yaml."""

    chain_iou: float
    max_per_chain: int
    look: str | None
    look_score: float
    look_px: int
    min_width_px: float
    min_score: float
    top_fraction: float
    margin: float
    max_px: int
    jpeg_quality: int
    max_per_cell: int
