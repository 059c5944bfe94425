"""Numbers with nouns in plain English."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 2, 'video' -> '2 videos'."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
