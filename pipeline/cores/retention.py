"""How long videos may be kept."""

import re
from datetime import timedelta
from enum import StrEnum

from pipeline.errors import UserError

AGE = re.compile(r"(\d{1,6})\s*([hdw])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class AgeBy(StrEnum):
    """The moment from which the age of a video counts."""

    RECORDED = "recorded"
    PROCESSED = "processed"


def parse_age(text: str) -> timedelta:
    """Return the duration that a user writes as 12h, 30d or 8w. Raises UserError for another text."""
    match = AGE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"--older-than must be a number with h, d or w, as 30d, got {text}")
    return int(match[1]) * UNITS[match[2]]
