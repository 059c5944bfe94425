"""Run the flow without Ray, in one process beside this one: one row after the other, or several spans at a time.

The work has its own process so that a crash of native code, a hang or a lack of memory ends only that process. The
run then goes on in a new one. Attempts, deadlines and durable chunks are the same as with Ray's workers.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from pipeline.child import Child, ChildDiedError
from pipeline.errors import UserError
from pipeline.flow import journal, local_child, metrics
from pipeline.flow.deferrals import POLL_S, Deferrals
from pipeline.flow.events import PUBLISH_RETRIES, Event, Progress, Work, again, finish_video, given_up
from pipeline.flow.local_process import At, Failed, Load, Map, MapTogether, Message, Publish, Task
from pipeline.flow.pools import Maps
from pipeline.flow.stage import WORKER_DIED, PoolOfStages
from pipeline.planning.spans import SpanRow
from pipeline.video.parts import track_here
from pipeline.video.relink import RelinkJob

LOADS = 3
"""Number of failed loads of the models after which the run gives up."""
ROUNDS = 8
"""Number of spans that each thread gets before videos are published."""
LAST_WORDS_S = 2
"""Seconds in which a process that has to end may write the last lines of its journal."""
GRACE_S = 60
"""Seconds after the deadline of a chunk. A worker ends itself at the deadline. If even that hangs, the run ends it
so many seconds later."""


class WorkerDiedError(Exception):
    """The worker's process has ended and has left no message."""


class LocalWorker(Protocol):
    """Does tasks, in another process. A new process replaces each that died."""

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        """Yield the messages of `task`. Raise WorkerDiedError if the process ends or hangs.

        patience_s: longest time in seconds between two messages while a chunk is at work.
        """
        ...


class PublisherHere:
    """Does the last steps of videos in this process, as LocalWorker. Other tasks need a process of their own."""

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        """Yield the event of a Publish."""
        assert isinstance(task, Publish)
        yield finish_video(task.last, track_here)


class WorkerProcess:
    """A process that does tasks. It starts with the first task, and `close` ends it.

    early: a process that has started already (local_child), which is the first one.
    """

    def __init__(self, maps: Maps, early: Child | None = None) -> None:
        self._maps, self._early = maps, early
        self._child: Child | None = None
        self._is_loading = False

    def load(self) -> None:
        """Begin to load the models that process pixels, without waiting for the end."""
        with suppress(WorkerDiedError):  # the first task will report it
            self._give(Load())
            self._is_loading = True

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        """Yield the messages of `task`, as LocalWorker states."""
        if self._is_loading:
            list(self._messages(patience_s))
            self._is_loading = False
        self._give(task)
        yield from self._messages(patience_s)

    def close(self) -> None:
        """End the process at once. Its current work does not become durable. Durable objects stay whole."""
        if self._child is not None:
            self._child.close(LAST_WORDS_S)
        self._child = None
        self._is_loading = False

    def _give(self, task: Task) -> None:
        try:
            child = self._child or self._start()
            child.send(task)
        except (ChildDiedError, OSError):  # an OSError where no process can be started
            self.close()
            raise WorkerDiedError from None

    def _messages(self, patience_s: float) -> Iterator[At | Event]:
        is_at_work = False
        while (message := self._next(patience_s if is_at_work else None)) is not None:
            if isinstance(message, Failed):
                raise message.error from RuntimeError(f"in the worker:\n{message.trace}")
            is_at_work = is_at_work or isinstance(message, At)
            yield message

    def _next(self, patience_s: float | None) -> Message | None:
        assert self._child is not None
        try:
            return self._child.receive(patience_s)
        except ChildDiedError:
            self._child = None
            self._is_loading = False
            raise WorkerDiedError from None

    def _start(self) -> Child:
        self._child, self._early = self._early or local_child.start(), None
        self._child.send(self._maps)
        return self._child


def run(work: Sequence[Work | RelinkJob], maps: Maps, worker: LocalWorker, deferrals: Deferrals) -> Iterator[Event]:
    """Carry out `work`. The videos that need no new chunks come first."""
    progress = Progress(work, deferrals)
    yield from _publish(progress, maps, worker)
    to_map = list(progress.videos.values())
    while to_map or deferrals.is_waiting:
        for portion in _portions(to_map, maps.whole[0].resources.spans):
            yield from _map_together(portion, progress, maps, worker)
            for task, video in portion:
                if progress.is_wanted(video.job.video_id):
                    yield from _map(task, video, progress, maps, worker)
            yield from _publish(progress, maps, worker)
        to_map = progress.take_due()
        yield from _publish(progress, maps, worker)
        if not to_map and deferrals.is_waiting:
            time.sleep(POLL_S)
    progress.check_ended()


def _portions(videos: Sequence[Work], spans: int) -> Iterator[list[tuple[Map, Work]]]:
    """Yield the rows of one video after the other, or of several videos if a worker can have several spans."""
    portion: list[tuple[Map, Work]] = []
    for video in videos:
        portion += [(Map(row), video) for row in (*video.faces_left(), *video.rows_left())]
        if len(portion) >= ROUNDS * spans or spans == 1:
            yield portion
            portion = []
    yield portion


def _map_together(
    portion: Sequence[tuple[Map, Work]], progress: Progress, maps: Maps, worker: LocalWorker
) -> Iterator[Event]:
    """Work on the spans of a portion at the same time, if the first pool can. `_map` does what is left after a death: a
    chunk alone shows whether it is at fault, so only its mark of this attempt stays, and it hardly counts."""
    spans = [
        row
        for task, video in portion
        if isinstance(task.row, SpanRow) and progress.is_wanted(video.job.video_id)
        if (row := task.row.without_durable(video.durable)) is not None
    ]
    if maps.whole[0].resources.spans == 1 or len(spans) < 2:
        return
    try:
        for message in worker.do(MapTogether(tuple(spans)), _patience_s(maps.whole)):
            if not isinstance(message, At):
                yield from progress.take(message)
    except WorkerDiedError:
        for pool in maps.whole[1:]:
            for video_id in dict.fromkeys(span.video_id for span in spans):
                pool.limits.ledger.take_back_attempt(video_id, pool.limits.run_id, pool.name)


def _map(task: Map, video: Work, progress: Progress, maps: Maps, worker: LocalWorker) -> Iterator[Event]:
    pools = maps.kept_faces if task.of_faces else maps.whole
    loads, has_died = 0, False
    while progress.is_wanted(video.job.video_id):
        at: int | None = None
        left = task.row.without_durable(video.durable) if isinstance(task.row, SpanRow) else task.row
        if left is None:
            return
        # While a chunk is in a later pool, threads already work on the next one. After a death, nothing works ahead.
        row = left.first_chunk() if has_died and isinstance(left, SpanRow) else left
        try:
            for message in worker.do(Map(row), _patience_s(pools)):
                if isinstance(message, At):
                    at = message.pool
                else:
                    yield from progress.take(message)
            if row == left:
                return
        except WorkerDiedError:
            has_died = has_died or at is not None
            if at is None:
                loads += 1
                journal.note("worker_died", "warning", attempt=loads, kind=WORKER_DIED, message="it loaded the models")
                if loads == LOADS:
                    raise UserError(
                        f"the worker ended {LOADS} times while it loaded the models; close other programs, or choose "
                        f"smaller models"
                    ) from None
            for pool in pools[: at or 0]:  # they waited for the pool at work and did not cause the death
                pool.limits.ledger.take_back_attempt(video.job.video_id, pool.limits.run_id, pool.name)


def _publish(progress: Progress, maps: Maps, worker: LocalWorker) -> Iterator[Event]:
    while progress.ready:
        last = progress.ready.popleft()
        for tries in range(PUBLISH_RETRIES + 1):
            try:
                task = Publish(again(last) if tries else last)
                for message in worker.do(task, _patience_s(maps.whole)):
                    if not isinstance(message, At):
                        yield from progress.take(message)
                break
            except WorkerDiedError:
                journal.note("worker_died", "warning", video=last.video_id, attempt=tries + 1, kind=WORKER_DIED)
                metrics.count("rollcall_retries_total", kind=WORKER_DIED)
                if tries == PUBLISH_RETRIES:
                    yield from progress.take(given_up(last, f"{tries + 1} times"))


def _patience_s(pools: Sequence[PoolOfStages]) -> float:
    return pools[0].limits.deadline_s + GRACE_S
