"""Videos whose files or tables cannot be reached for the moment: when they are tried again, and when they are left to
the next run.

A failure that may pass (errors.PassingError) says nothing about a video, so it never quarantines one. Storage repeats
a request for up to 90 seconds. Then the worker goes on with other chunks, and the video is tried again after some
minutes, in rounds. After the last round it is deferred: it keeps its state, and the next run takes it up.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.planning.outage import OutageBreaker

POLL_S = 0.5
Item = TypeVar("Item")


@dataclass
class Deferrals:
    """The failures of a run that may pass.

    waits_s: seconds to wait before each round. Its length is the number of rounds.
    now: a monotonic clock, in seconds.
    """

    waits_s: Sequence[float]
    now: Callable[[], float] = time.monotonic
    _rounds: dict[str, int] = field(default_factory=dict)
    _due_s: dict[str, float] = field(default_factory=dict)
    _breaker: OutageBreaker = field(default_factory=OutageBreaker)

    def fail(self, video_id: str, reason: str) -> bool:
        """Note a failure. Return whether the video is tried again in this run. Several failures of a video that
        waits already count as one.

        Raises PassingError if so many videos have failed in a row that their place must be asleep.
        """
        self._breaker.fail(video_id, reason)
        if video_id in self._due_s:
            return True
        num_rounds = self._rounds.get(video_id, 0)
        if num_rounds == len(self.waits_s):
            return False
        self._rounds[video_id] = num_rounds + 1
        self._due_s[video_id] = self.now() + self.waits_s[num_rounds]
        return True

    def succeed(self) -> None:
        """Note that something of some video could be read and written."""
        self._breaker.succeed()

    @property
    def is_waiting(self) -> bool:
        """Whether some video is still to be tried again."""
        return bool(self._due_s)

    def waits(self, video_id: str) -> bool:
        """Return whether a video is still to be tried again."""
        return video_id in self._due_s

    def take_due(self) -> list[str]:
        """Return the videos whose time has come, in order of their failures. They no longer wait."""
        now = self.now()
        due = [video_id for video_id, due_s in self._due_s.items() if due_s <= now]
        for video_id in due:
            del self._due_s[video_id]
        return due


def in_rounds(items: Mapping[str, Item], deferrals: Deferrals) -> Iterator[Sequence[Item]]:
    """Yield all items, by name, and then those again that `deferrals` holds and whose time has come, until none is
    left."""
    batch = list(items.values())
    while batch:
        yield batch
        while not (due := deferrals.take_due()) and deferrals.is_waiting:
            time.sleep(POLL_S)
        batch = [items[name] for name in due]
