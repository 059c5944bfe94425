"""Python's search for garbage, put off while modules are imported and models are loaded.

Imports make hundreds of thousands of objects that stay. Python searches all of them again and again as they grow in
number, which is a fifth of the time that torch's import takes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search() -> Iterator[None]:
    """Search for no garbage during the block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def imports_that_stay() -> Iterator[None]:
    """Search for no garbage during the block, nor ever among what is there at its end. Only for processes of our own:
    at their end, some libraries report what is still there as leaked."""
    with no_search():
        yield
        gc.freeze()
