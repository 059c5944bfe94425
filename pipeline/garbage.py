"""Python's search for garbage, put off while modules are imported and models are loaded.

Imports make hundreds of thousands of objects that stay. Python searches all of them again and again as they grow in
number, which is a fifth of the time that torch's import takes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search() -> Iterator[None]:
    """Search for no garbage during the block, nor among what is there at its end."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
