"""The distribution of an age over twelve groups of ten years. The last group holds everybody from 110 years on.

Seed B's networks have these groups as an output of their own. A network with a class for each year, or for groups of
years of its own, is brought to the same groups here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GROUPS = 12
GROUP_YEARS = 10
SMALLEST_SPREAD = 0.1
"""Years. Smaller spreads of a network's distribution count as this."""


def over_years(shares: NDArray[np.floating], classes: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return the distributions over the years 0 to 119, (N, 120), of (N, K) distributions over classes of years. The
    share of a class is spread evenly over its years.

    classes: (K,) first and last year of each.
    """
    years = np.zeros((len(shares), GROUPS * GROUP_YEARS))
    for share, (first, last) in zip(shares.T.astype(np.float64), classes, strict=True):
        inside = np.arange(int(first), max(int(last), int(first)) + 1).clip(0, years.shape[1] - 1)
        np.add.at(years.T, inside, share[None] / len(inside))
    return years


def grouped(
    shares: NDArray[np.floating], ages: NDArray[np.floating], stds: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the distributions over the groups, (N, 12), of (N, Y) distributions over the years 0 to Y - 1.

    Each distribution is moved and stretched to the mean in `ages` and the standard error in `stds`, (N,) years each,
    which calibration has corrected. nan where there is no age.
    """
    shares = shares.astype(np.float64)
    years = np.arange(shares.shape[1])
    means = shares @ years
    spreads = np.sqrt(np.maximum((shares * (years - means[:, None]) ** 2).sum(axis=1), SMALLEST_SPREAD**2))
    moved = ages[:, None] + (years - means[:, None]) * (stds / spreads)[:, None]
    groups = np.clip(np.nan_to_num(np.floor(moved / GROUP_YEARS)), 0, GROUPS - 1).astype(np.int64)
    places = np.arange(len(shares))[:, None] * GROUPS + groups
    summed = np.bincount(places.ravel(), shares.ravel(), minlength=len(shares) * GROUPS).reshape(-1, GROUPS)
    return np.where(np.isfinite(ages)[:, None], summed, np.nan)


def pooled(dists: NDArray[np.floating], weights: NDArray[np.floating]) -> tuple[float, ...] | None:
    """Return the weighted mean of (N, 12) distributions, in steps of 0.001, or None if no row is one.

    weights: (N,). Rows of nan do not count.
    """
    known = np.isfinite(dists).all(axis=1) & (weights > 0)
    if not known.any():
        return None
    # Rounding comes before the sum, so that the order of the faces decides nothing.
    mean = np.round(weights[known] @ dists[known].astype(np.float64) / weights[known].sum(), 9)
    return tuple(np.round(mean, 3).tolist())
