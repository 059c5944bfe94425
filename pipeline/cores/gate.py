"""Decide which faces may be judged, and whose they are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GateParams:
    """See `gate` in conf/base.yaml."""

    min_score: float
    min_eye_distance_px: float
    min_sharpness: float
    max_yaw: float
    max_roll_deg: float
    min_inside: float
    max_occluded: float
