"""The knobs of linking."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.cores.ranges import Count, Distance, check


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityParams:
    """The knobs `identity` of conf/base.yaml."""

    max_gap_s: Distance
    gap_motion: Distance
    gap_motion_per_s: Distance
    shot_max_s: Distance
    max_absence_s: Distance
    candidates: Count
    wrong_joins: Annotated[float, Gt(0), Le(0.5)]

    def __post_init__(self) -> None:
        check(self)

    def compares_bodies(self, elsewhere: NDArray[np.bool_], gap_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (L,) bool: whether bodies alone may join pairs that are `gap_s` apart.

        elsewhere: (L,) bool. Whether the two are in different shots.
        """
        return np.where(elsewhere, gap_s <= self.shot_max_s, (gap_s > self.max_gap_s) & (gap_s <= self.max_absence_s))

    @property
    def surety(self) -> float:
        """Return the least sum of a log-likelihood ratio and the prior log odds that joins two tracklets."""
        return round(float(np.log((1 - self.wrong_joins) / self.wrong_joins)), 3)
