"""The knobs of linking."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from pipeline.cores.ranges import Count, Distance, check

USUAL_SHARE = 0.05
GAP_SURETY, SHOT_SURETY = 1.5, 1.5
"""The least evidence, in nats, that joins two tracklets over a gap, and bodies over shots, where USUAL_SHARE of the
joins may be wrong (decisions 47 and 49). It includes the prior odds."""
GAP_STRICTNESS, SHOT_STRICTNESS = 4.0, 1.5
"""Nats of evidence for each nat of the log odds of the accepted share. Few pairs lie between those who surely are one
person and those who surely are two, so the share of wrong joins changes slowly with the least evidence."""


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
        """Return the log odds of a right join where a share of `wrong_joins` is wrong.

        It is the least sum of a log-likelihood ratio and the prior log odds that joins faces.
        """
        return round(_log_odds(self.wrong_joins), 3)

    @property
    def gap_surety(self) -> float:
        """Return the least sum of a log-likelihood ratio and the prior log odds that joins two tracklets over a gap."""
        return self._calibrated(GAP_SURETY, GAP_STRICTNESS)

    @property
    def shot_surety(self) -> float:
        """Return the least sum of a log-likelihood ratio and the prior log odds that joins bodies over shots."""
        return self._calibrated(SHOT_SURETY, SHOT_STRICTNESS)

    def _calibrated(self, usual: float, strictness: float) -> float:
        return round(usual + strictness * (_log_odds(self.wrong_joins) - _log_odds(USUAL_SHARE)), 3)


def _log_odds(wrong_share: float) -> float:
    return float(np.log((1 - wrong_share) / wrong_share))
