"""Shares of a few people, with their uncertainty."""

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval (Wilson), each in 0..1."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, part: int, whole: int) -> "Share":
        """Return the share of `part` in `whole`, which is at least 1."""
        share, z2 = part / whole, Z_95**2 / whole
        middle = (share + z2 / 2) / (1 + z2)
        half = Z_95 / (1 + z2) * sqrt(share * (1 - share) / whole + z2 / (4 * whole))
        return cls(share, max(0.0, middle - half), min(1.0, middle + half))
