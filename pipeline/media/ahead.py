"""Work ahead of a consumer in a thread."""

import contextvars
import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], depth: int) -> Generator[Item]:
    """Pull `items` in a thread, up to `depth` ahead of the consumer. An error that they raise is raised here, in its
    place. The thread has the caller's context variables.

    Closing this generator early ends the thread, and closes `items` inside it, before it returns.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(max(1, depth))
    closed = threading.Event()

    def pull() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                ready.put((item, None, True))
                if closed.is_set():
                    return
            ready.put((None, None, False))
        except BaseException as error:  # the consumer gets every error
            ready.put((None, error, False))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()  # type: ignore[attr-defined]

    context = contextvars.copy_context()
    puller = threading.Thread(target=context.run, args=(pull,), name="decode-ahead", daemon=True)
    puller.start()
    try:
        while True:
            item, error, more = ready.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        while puller.is_alive():
            # One put may be waiting for room, and one more may follow it.
            while not ready.empty():
                ready.get_nowait()
            puller.join(0.01)
