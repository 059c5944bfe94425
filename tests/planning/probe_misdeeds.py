"""The process that probes, with files whose names say what they do to it."""

import os
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.errors import DataError
from pipeline.media.container import Opener
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.planning import probe_child
from pipeline.storage import faults, remote

MEMORY_BYTES = 1 << 30


def misbehave(open_source: Opener) -> Probe:
    path = str(open_source())
    match Path(path).name.split(".")[0]:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "hang":
            time.sleep(600)
        case "fill":
            return bytearray(2 * MEMORY_BYTES)  # type: ignore[return-value]
        case "err":
            raise ZeroDivisionError("nobody foresaw this")
        case "refuse":
            raise DataError("no frame can be decoded")
        case "retry":
            for listener in faults.retry_listeners:
                listener("SlowDown", "a bucket sleeps", 2.5)
            for num_bytes in (100, 23):
                for count in remote.read_listeners:
                    count(num_bytes)
            raise DataError("it ends here")
        case "once":
            died = Path(f"{path}.died")
            if not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return probe(lambda: str(Path(path).with_name("a.jpg")))
    return probe(open_source)


def serve(connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    probe_child.MEMORY_BYTES = MEMORY_BYTES
    probe_child.probe = misbehave
    probe_child.serve(connection)
