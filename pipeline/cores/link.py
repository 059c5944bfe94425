"""Which tracklets of a video are the same person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityParams:
    """See `identity` in conf/base.yaml."""

    max_gap_s: float
    gap_distance: float
    gap_motion: float
    gap_motion_per_s: float
    shot_distance: float
    face_distance: float
    shot_max_s: float
    candidates: int
