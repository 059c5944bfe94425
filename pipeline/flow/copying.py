"""Make copies of videos and pictures with many workers. The pieces of one video are made side by side."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from pipeline.errors import DataError, LeaseError, MachineError, PassingError, UserError, lack_of
from pipeline.flow.tasks import Tasks
from pipeline.video.copies import CopyJob, CopyPlan, finish_copy, make_piece, plan_copy

TASKS_PER_WORKER = 3
"""Tasks that wait or run, per worker. More would hold the rows of more videos in memory."""


@dataclass(frozen=True, slots=True)
class PieceMade:
    """A part of a copy is there. num_frames: its number of frames."""

    num_frames: int


@dataclass(frozen=True, slots=True)
class CopyMade:
    """A copy is there.

    is_new: whether it was made now.
    remark: about its sound, or None.
    """

    job: CopyJob
    is_new: bool
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """A copy could not be made.

    reason: text for the user.
    may_pass: its storage failed for the moment.
    """

    job: CopyJob
    reason: str
    may_pass: bool


CopyEvent = PieceMade | CopyMade | CopyFailed


@dataclass(slots=True, eq=False)
class _Copy:
    """The state of a copy at work. num_left: pieces that are not made."""

    job: CopyJob
    plan: CopyPlan | None = None
    num_left: int = 0
    is_over: bool = False


@dataclass(slots=True)
class _Copying:
    tasks: Tasks
    at_work: dict["Future[Any]", tuple[_Copy, Callable[[_Copy, Any], Iterator[CopyEvent]]]] = field(
        default_factory=dict
    )
    pieces: deque[tuple[_Copy, tuple[int, int]]] = field(default_factory=deque)

    def run(self, jobs: Iterable[CopyJob]) -> Iterator[CopyEvent]:
        copies = map(_Copy, jobs)
        while self._fill(copies):
            done, _ = wait(self.at_work, return_when=FIRST_COMPLETED)
            for future in done:
                copy, take = self.at_work.pop(future)
                if copy.is_over:
                    continue
                try:
                    yield from take(copy, future.result())
                except (UserError, MachineError, LeaseError):
                    raise
                except Exception as error:
                    copy.is_over = True
                    yield _failure(copy.job, error)

    def _fill(self, copies: Iterator[_Copy]) -> bool:
        """Give work to free workers, pieces before new videos. Return whether there is any."""
        room = self.tasks.num_workers * TASKS_PER_WORKER
        while self.pieces and len(self.at_work) < room:
            copy, span = self.pieces.popleft()
            if not copy.is_over and copy.plan is not None:
                self._start(copy, partial(make_piece, copy.job, copy.plan, span), self._take_piece)
        for copy in islice(copies, max(0, room - len(self.at_work))):
            self._start(copy, partial(plan_copy, copy.job), self._take_plan)
        return bool(self.at_work)

    def _start(self, copy: _Copy, task: Callable[[], Any], take: Callable[[_Copy, Any], Iterator[CopyEvent]]) -> None:
        self.at_work[self.tasks.submit(task)] = copy, take

    def _take_plan(self, copy: _Copy, plan: CopyPlan | None) -> Iterator[CopyEvent]:
        if plan is None:
            yield CopyMade(copy.job, is_new=False)
            return
        copy.plan, copy.num_left = plan, len(plan.spans)
        self.pieces.extend((copy, span) for span in plan.spans)
        self._finish_if_whole(copy)

    def _take_piece(self, copy: _Copy, num_frames: int) -> Iterator[CopyEvent]:
        copy.num_left -= 1
        yield PieceMade(num_frames)
        self._finish_if_whole(copy)

    def _finish_if_whole(self, copy: _Copy) -> None:
        if copy.num_left == 0 and copy.plan is not None:
            self._start(copy, partial(finish_copy, copy.job, copy.plan), self._take_end)

    def _take_end(self, copy: _Copy, remark: str | None) -> Iterator[CopyEvent]:
        yield CopyMade(copy.job, is_new=True, remark=remark)


def _failure(job: CopyJob, error: Exception) -> CopyFailed:
    """Return the failure of a copy. An error that nobody foresaw ends this copy and no other."""
    if fault := lack_of(error):
        raise fault from error
    if isinstance(error, DataError | PassingError):
        return CopyFailed(job, str(error), may_pass=isinstance(error, PassingError))
    return CopyFailed(job, f"a bug ended its copy: {type(error).__name__}: {error}", may_pass=False)


def make_copies(jobs: Iterable[CopyJob], tasks: Tasks) -> Iterator[CopyEvent]:
    """Make copies, and yield what happens. A copy that fails does not stop the others."""
    yield from _Copying(tasks).run(jobs)
