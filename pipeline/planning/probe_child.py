"""The process in which containers are probed. An untrusted file can crash it, hang in it, or take all of its memory.

It imports only what probing needs, so that it starts in a fifth of a second.
"""

import resource
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.child import arrivals
from pipeline.errors import ChangedError, DataError, MachineError, PassingError, UserError, described_bug
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.planning.probe_pool import Answer, ProbeBugError, Ready, Repeated
from pipeline.storage import faults, remote
from pipeline.storage.source_files import opener

MEMORY_BYTES = 8 << 30
"""Most memory that a probe may take. The largest frames that are let through take a tenth of it."""
FIRST_TO_DIE = "1000"
"""Value of oom_score_adj. If memory runs out, the system ends this process before the run."""


def serve(connection: Connection) -> None:
    """Receive uris, and send the answer to each."""
    _limit_memory()
    connection.send(Ready())
    num_read: list[int] = []
    remote.read_listeners.append(num_read.append)
    faults.retry_listeners.append(lambda *failure: connection.send(Repeated(*failure)))
    for uri in arrivals(connection):
        num_read.clear()
        outcome = _probed(uri)
        connection.send(Answer(outcome, sum(num_read)))


def _probed(uri: str) -> Probe | Exception:
    try:
        return probe(opener(uri))
    except (ChangedError, PassingError, UserError, MachineError) as error:
        return error
    except DataError as error:
        return DataError(str(error))  # without its cause, which another process may not know
    except MemoryError:
        return DataError(f"reading its header takes more memory than there is, or than {MEMORY_BYTES >> 30} GB")
    except Exception as bug:
        return ProbeBugError(described_bug(bug), "".join(traceback.format_exception(bug)))


def _limit_memory() -> None:
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_DIE)
