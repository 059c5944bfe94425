"""Load the models of a pool, more than once where that can help."""

import random
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline.errors import LeaseError, MachineError, PassingError, UserError, lack_of
from pipeline.flow import journal
from pipeline.flow.nodes import Attempt, Nodes
from pipeline.garbage import no_search
from pipeline.storage.ledger import LOADING, Ledger

LOADS = 3
"""Number of times that a worker loads its models, and that it may die of it."""
LONGEST_WAIT_S = 4.0
"""The longest random wait before the models are loaded again. A busy disk or a network needs a moment."""
REMEDY = (
    "check its disk, memory and graphics card, or choose smaller models and fewer run.*.workers, and run the same "
    "command again: what is finished is kept"
)


def load(build: Callable[[], list[Any]], pool: str, sleep: Callable[[float], None] = time.sleep) -> list[Any]:
    """Return the result of `build`, which is repeated after a failure that may be gone then.

    Raises MachineError of two lines instead of an exception of a library.
    """
    for number in range(1, LOADS + 1):
        try:
            with no_search():
                return build()
        except (UserError, LeaseError):
            raise
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            kind, message = type(error).__name__, _first_line(error)
            journal.note("worker_failed", "warning", pool=pool, kind=kind, message=message, traceback=trace)
            if number == LOADS:
                raise _plain(error, pool) from error
            sleep(random.uniform(0, LONGEST_WAIT_S))
    raise AssertionError("the last try returns or raises")


def check_deaths(ledger: Ledger, run_id: str, pool: str, nodes: Nodes) -> int:
    """Mark that this worker begins to load, and return the number of its marks. Raises MachineError if it has died of
    it too often."""
    worker = nodes.worker()
    if worker is None:
        return 0
    with suppress(PassingError):  # without the mark, a death is not counted
        number = ledger.begin_attempt(LOADING, run_id, pool, worker, nodes.here())
        marks = ledger.marks_of_attempts(LOADING, run_id, pool, worker, number - 1)
        attempt = Attempt.after(marks, nodes)
        if attempt.num_deaths:
            journal.note("worker_died", "warning", pool=pool, attempt=number - 1, message="it loaded the models")
        if attempt.number > LOADS:
            raise MachineError(f"a worker of the pool {pool} died {attempt.deaths} while it loaded models\n{REMEDY}")
        return number
    return 0


def end_loading(ledger: Ledger, run_id: str, pool: str, nodes: Nodes, number: int) -> None:
    """Remove the marks of a worker that has loaded its models."""
    worker = nodes.worker()
    if worker is not None:
        with suppress(PassingError):
            ledger.end_attempts(LOADING, run_id, pool, worker, number)


def _plain(error: Exception, pool: str) -> Exception:
    if isinstance(error, MachineError | PassingError):
        return error
    if lack := lack_of(error):
        return lack
    return MachineError(
        f"the models of the pool {pool} cannot be loaded: {type(error).__name__}: {_first_line(error)}\n{REMEDY}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
