"""Select the frames of a video whose time stamps are credible, without pixels or containers.

Laws:
- A frame is kept if its stamp lies after that of the last kept frame and does not run ahead of the frames that
  follow. So one stamp that is missing, repeated, too early or far off costs at most that frame.
- The decision depends on the last kept frame and on the LOOK_AHEAD frames that follow. A keyframe wins over a frame
  before it, so that decoding that begins at the keyframe keeps the same frames.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")

LOOK_AHEAD = 4
"""The number of following frames that are read before a frame is judged."""
FALL_BACK_S = 1
"""Seconds. If time stamps jump back by more than this and stay there, the file holds pieces of several recordings."""
LONE_GAP_S = 10
LONE_GAP_RATIO = 20
"""A first frame has a wrong stamp if it is this many seconds, and this many longest later gaps, before the second."""


class FellBack(Exception):  # noqa: N818 — a state of the file, not a mistake
    """Raised when the clock jumps back and continues from there.

    at_s: the time of the jump in seconds.
    by_s: the size of the jump in seconds.
    """

    def __init__(self, at_s: Fraction, by_s: Fraction) -> None:
        super().__init__(at_s, by_s)
        self.at_s, self.by_s = at_s, by_s


class Stamped(NamedTuple, Generic[Item]):
    """A frame in the order of output.

    item: the frame itself.
    ticks: its time stamp.
    is_key: whether decoding may begin at this frame.
    """

    item: Item
    ticks: int
    is_key: bool


def in_line(frames: Iterable[Stamped[Item]], tick_s: Fraction, *, entered: bool = False) -> Iterator[Stamped[Item]]:
    """Yield the frames whose stamps are credible, with rising times. Raises FellBack.

    tick_s: seconds of one tick of their stamps.
    entered: whether decoding began at the first of them, a keyframe that was found in the middle of the video by its
        stamp.
    """
    last: int | None = None
    far = FALL_BACK_S // tick_s
    source = iter(frames)
    waiting: deque[Stamped[Item]] = deque()
    newest, num_rising = None, 0  # of the frames that were read last, those whose stamps rise
    while True:
        for frame in islice(source, LOOK_AHEAD + 1 - len(waiting)):
            num_rising = num_rising + 1 if newest is not None and frame.ticks > newest else 0
            newest = frame.ticks
            waiting.append(frame)
        if not waiting:
            return
        head = waiting.popleft()
        if num_rising >= len(waiting) and (last is None or head.ticks > last):  # as nearly always
            last = head.ticks
            yield head
        elif last is not None and head.ticks <= last:
            fallen = [ticks for ticks in (head.ticks, *(frame.ticks for frame in waiting)) if last - ticks > far]
            if last - head.ticks > far and len(fallen) > LOOK_AHEAD // 2:
                raise FellBack(last * tick_s, (last - head.ticks) * tick_s)
        elif not _runs_ahead(head, last, waiting, far, trusted=entered and last is None):
            last = head.ticks
            yield head


def _runs_ahead(
    head: Stamped[Item], last: int | None, following: Sequence[Stamped[Item]], far: int, *, trusted: bool
) -> bool:
    """Return whether to drop a frame in favour of following frames that have earlier stamps."""
    earlier = [frame for frame in following if frame.ticks <= head.ticks and (last is None or frame.ticks > last)]
    if not earlier or len(earlier) > 1:
        return bool(earlier)
    if trusted:
        return False
    if len(following) == 1:  # of the last two frames a keyframe is kept; otherwise the distance shows the wrong stamp
        if head.is_key != earlier[0].is_key:
            return earlier[0].is_key
        return head.ticks - earlier[0].ticks > far
    return following[0] is earlier[0] and following[0].is_key


def is_lone_start(times_s: Sequence[Fraction]) -> bool:
    """Return whether the first of a video's first frames has a stamp from another clock than the rest."""
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    return len(gaps) > 1 and gaps[0] > max(LONE_GAP_S, LONE_GAP_RATIO * max(gaps[1:]))
