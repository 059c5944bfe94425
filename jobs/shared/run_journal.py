"""The journal of a run of `process`: its beginning, how far it is, and its end."""

import json
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.config import Config
from pipeline.errors import DataError, LeaseError, MachineError, PassingError, UserError
from pipeline.flow import journal
from pipeline.storage.event_log import FLUSH_EVERY_S, EventTarget
from pipeline.storage.store import Store
from pipeline.version import rollcall_version

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable in which Ray names the job to its driver."""
FORESEEN = (UserError, MachineError, PassingError, DataError)


def events_of(store: Store, run_id: str, config: Config) -> EventTarget:
    """Return the place for the events of a run."""
    return EventTarget(store.uri, run_id, submission_id(), to_stderr=config.run.log == "json")


def submission_id() -> str | None:
    """Return the id under which this process was submitted with `ray job submit`, or None."""
    try:
        return json.loads(os.environ.get(JOB_CONFIG, "{}"))["metadata"]["job_submission_id"]
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def keeping_journal(events: EventTarget, store: Store) -> Iterator[None]:
    """Keep the journal of the run in the block, with its beginning and its end.

    store: the output, which this run holds.
    """
    journal.open_driver_journal(events)
    journal.note("run_began", version=rollcall_version())
    if store.guard is not None:
        journal.note_lease_taken(store.guard.strength)
    try:
        yield
    except LeaseError as error:
        journal.note_lease_lost(str(error))
        journal.note("run_ended", "error", kind="failed", message=str(error))
        raise
    except (KeyboardInterrupt, SystemExit):
        journal.note("run_ended", "warning", kind="interrupted")
        raise
    except BaseException as error:
        bug = None if isinstance(error, FORESEEN) else "".join(traceback.format_exception(error))
        journal.note("run_ended", "error", kind="failed", message=f"{type(error).__name__}: {error}", traceback=bug)
        raise
    else:
        journal.note("run_ended", kind="done")
    finally:
        journal.flush_before_death()
        journal.open_journal(None)


@contextmanager
def telling_progress(facts: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Note in the block how far the run is, every FLUSH_EVERY_S seconds, and at its end. A run that says nothing for
    long is dead."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(FLUSH_EVERY_S):
            journal.note("run_progress", **facts())
            journal.tell_lease_age()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        journal.note("run_progress", **facts())
