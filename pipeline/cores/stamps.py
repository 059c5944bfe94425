"""Which frames of a video have a time stamp that can be believed. No pixels, no container.

Laws:
- A frame is kept if its stamp lies after that of the last kept frame and does not run ahead of the frames that follow.
  So one stamp that is missing, double, too early or far off costs at most that frame.
- What is kept depends on the last kept frame and on LOOK_AHEAD frames that follow. A keyframe wins over a frame before
  it, so that decoding may begin at the keyframe and keep the same frames.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Generic, TypeVar

Item = TypeVar("Item")

LOOK_AHEAD = 4
"""Frames that are seen before one is judged."""
FALL_BACK_S = 1
"""Time stamps that jump back by more than this, and stay there, show pieces of several recordings in one file."""
LONE_GAP_S = 10
LONE_GAP_RATIO = 20
"""A first frame this long before the second, in s and in the longest gap behind it, has a wrong stamp."""


class FellBack(Exception):  # noqa: N818 — a state of the file, not a mistake
    """The clock jumps back by `by_s` at `at_s`, in s, and goes on from there."""

    def __init__(self, at_s: Fraction, by_s: Fraction) -> None:
        super().__init__(at_s, by_s)
        self.at_s, self.by_s = at_s, by_s


@dataclass(frozen=True, slots=True)
class Stamped(Generic[Item]):
    """A frame in the order of output. time_s: by its stamp. is_key: decoding may begin there."""

    item: Item
    time_s: Fraction
    is_key: bool


def in_line(frames: Iterable[Stamped[Item]], *, entered: bool = False) -> Iterator[Stamped[Item]]:
    """The frames whose stamps can be believed, with rising times. Raises FellBack.

    entered: decoding began at the first of them, a keyframe in the middle of the video, by its stamp.
    """
    last_s: Fraction | None = None
    source = iter(frames)
    waiting = deque(islice(source, LOOK_AHEAD))
    while waiting or (waiting := deque(islice(source, 1))):
        waiting.extend(islice(source, LOOK_AHEAD + 1 - len(waiting)))
        head = waiting.popleft()
        if last_s is not None and head.time_s <= last_s:
            fallen = [
                time_s
                for time_s in (head.time_s, *(frame.time_s for frame in waiting))
                if last_s - time_s > FALL_BACK_S
            ]
            if last_s - head.time_s > FALL_BACK_S and len(fallen) > LOOK_AHEAD // 2:
                raise FellBack(last_s, last_s - head.time_s)
        elif not _runs_ahead(head, last_s, waiting, trusted=entered and last_s is None):
            last_s = head.time_s
            yield head


def _runs_ahead(
    head: Stamped[Item], last_s: Fraction | None, following: Sequence[Stamped[Item]], *, trusted: bool
) -> bool:
    """Whether to leave out a frame, and to keep those that follow it and have earlier stamps instead."""
    earlier = [one for one in following if one.time_s <= head.time_s and (last_s is None or one.time_s > last_s)]
    if not earlier or len(earlier) > 1:
        return bool(earlier)
    if trusted:
        return False
    if len(following) == 1:  # the last two frames: nothing but the distance tells which is wrong
        return head.time_s - earlier[0].time_s > FALL_BACK_S
    return following[0] is earlier[0] and following[0].is_key


def is_lone_start(times_s: Sequence[Fraction]) -> bool:
    """Whether the first of a video's first frames has a stamp from another clock than the rest."""
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    return len(gaps) > 1 and gaps[0] > max(LONE_GAP_S, LONE_GAP_RATIO * max(gaps[1:]))
