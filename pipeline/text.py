"""Make text safe to store and to show, whatever bytes file names hold. Also: write a number with its noun."""

import re

_STRAY = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, marks that change the direction of text, and bytes that are not UTF-8."""


def storable(text: str) -> str:
    """Return `text` as valid UTF-8. A byte of a file name that is not UTF-8 becomes %E9, as in a URI."""
    if text.isascii():
        return text
    return _STRAY.sub(lambda character: f"%{ord(character[0]) & 0xFF:02X}", text)


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with escapes such as \\n and \\x1b for characters that would control a terminal or break a log
    line.

    keep: the characters that stay unchanged.
    """
    return _UNSEEN.sub(lambda character: character[0] if character[0] in keep else _escaped(character[0]), text)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 2, 'video' -> '2 videos'."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) & 0xFF:02x}"
    return character.encode("unicode_escape").decode()
