"""Numbers of things, as a person reads them."""


def count(number: int, noun: str) -> str:
    """2, 'video' -> '2 videos'."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
