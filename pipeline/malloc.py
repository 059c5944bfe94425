"""A limit on the arenas of glibc's malloc, so that the memory of a process does not grow with its threads.

An arena is an area of memory for one thread or a few, and what is free in one of them serves no other. By default a
process may have 8 arenas for each core: on two cores, a worker on Ray has 16 before its first chunk. Memory grows until
each of them has held the most that its threads need.
"""

import ctypes
import os
from contextlib import suppress

VARIABLE, MOST_ARENAS = "MALLOC_ARENA_MAX", 2
ENVIRONMENT = {VARIABLE: str(MOST_ARENAS)}
"""The limit for processes that are started. A value of the user comes first. Other kinds of malloc ignore it."""
M_ARENA_MAX = -8
"""The number of the limit in glibc's malloc.h."""


def limit_arenas() -> None:
    """Limit the arenas of this process, unless the user has set a limit. Arenas that exist stay."""
    if VARIABLE not in os.environ:
        with suppress(OSError, AttributeError):  # another kind of malloc
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, MOST_ARENAS)
