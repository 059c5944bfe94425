"""One estimate per person, from the faces of the person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonParams:
    """See `person` in conf/base.yaml."""

    min_faces: int
    min_weight: float
    huber_years: float
    correlation: float
    min_gender_prob: float
