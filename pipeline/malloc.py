"""Settings of glibc's malloc: few arenas, so that the memory of a process does not grow with its threads, and memory
that is used again and again.

An arena is an area of memory for one thread or a few, and what is free in one of them serves no other. By default a
process may have 8 arenas for each core: on two cores, a worker on Ray has 16 before its first chunk. Memory grows until
each of them has held the most that its threads need.

By default malloc gives large blocks and the free end of its heap back to the system at once, and asks for them again.
A network frees and takes the same blocks in every pass, and the system fills each of their pages with zeros anew: that
was half of the time of OSNet x0.25 with 32 crops, and an eighth of YOLOv8n's with 8 pictures.
"""

import ctypes
import os
from contextlib import suppress

VARIABLE, MOST_ARENAS = "MALLOC_ARENA_MAX", 2
ENVIRONMENT = {VARIABLE: str(MOST_ARENAS)}
"""The limit for processes that are started. A value of the user comes first. Other kinds of malloc ignore it."""
KEEPING = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user decides what is given back."""
KEPT_BYTES, LARGE_BYTES, LARGE_BYTES_BEFORE = 512 << 20, 256 << 20, 32 << 20
"""Most free memory that a process keeps, and the size from which a block is given back at once. Versions of glibc
before 2.35 take no more than the third."""
M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1
"""The numbers of the settings in glibc's malloc.h."""


def limit_arenas() -> None:
    """Limit the arenas of this process, unless the user has set a limit. Arenas that exist stay."""
    if VARIABLE not in os.environ:
        with suppress(OSError, AttributeError):  # another kind of malloc
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, MOST_ARENAS)


def keep_freed() -> None:
    """Let this process keep memory that it frees, up to KEPT_BYTES, unless the user has decided that."""
    if any(name in os.environ for name in KEEPING):
        return
    with suppress(OSError, AttributeError):  # another kind of malloc
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) or mallopt(M_MMAP_THRESHOLD, LARGE_BYTES_BEFORE):
            mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
