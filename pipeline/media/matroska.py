"""Read which part of the stored picture Matroska and WebM files show. FFmpeg's interface hides it.

Contract: the files are untrusted. Whatever their elements state, only a few kB are read and nothing is raised.
"""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.media.iso import WHOLE, Insets

SEGMENT, CLUSTER, TRACKS, TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
VIDEO, BOTTOM, TOP, LEFT, RIGHT = 0xE0, 0x54AA, 0x54BB, 0x54CC, 0x54DD
MAX_ELEMENTS = 4096


def track_insets(file: BinaryIO, number: int) -> Insets:
    """Return what the `number`-th video track crops from its stored picture. Tracks count from 0 in the order of the
    file."""
    end = file.seek(0, 2)
    for segment in _inside(file, 0, end, SEGMENT):
        for tracks in _inside(file, *segment, TRACKS):
            settings = [video for track in _inside(file, *tracks, TRACK) for video in _inside(file, *track, VIDEO)]
            if number < len(settings):
                left, top, right, bottom = (
                    _number(file, settings[number], side) for side in (LEFT, TOP, RIGHT, BOTTOM)
                )
                return left, top, right, bottom
    return WHOLE


def _number(file: BinaryIO, place: tuple[int, int], wanted: int) -> int:
    for start, end in _inside(file, *place, wanted):
        file.seek(start)
        return int.from_bytes(file.read(min(8, end - start)), "big")
    return 0


def _inside(file: BinaryIO, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the content of each element of a kind in bytes [start, end), up to the first cluster."""
    for _ in range(MAX_ELEMENTS):
        file.seek(start)
        head = file.read(12)
        if start >= end or len(head) < 2:
            return
        kind, id_length = _varying(head, keep_marker=True)
        size, size_length = _varying(head[id_length:], keep_marker=False)
        if not id_length or not size_length or kind == CLUSTER:
            return
        is_open = size == (1 << 7 * size_length) - 1  # its size is unknown: it ends with its parent
        start += id_length + size_length
        stop = end if is_open else min(end, start + size)
        if kind == wanted:
            yield start, stop
        start = stop


def _varying(head: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Return an EBML number and its length in bytes. A length of 0 means that there is none."""
    if not head or not head[0]:
        return 0, 0
    length = 9 - head[0].bit_length()
    if len(head) < length:
        return 0, 0
    number = int.from_bytes(head[:length], "big")
    return (number if keep_marker else number & ((1 << 7 * length) - 1)), length
