"""Select the frames of a video whose time stamps are credible, without pixels or containers.

Laws:
- A frame is kept if its stamp lies after that of the last kept frame and does not run ahead of the frames that
  follow. So one stamp that is missing, repeated, too early or far off costs at most that frame.
- The decision depends on the last kept frame and on the LOOK_AHEAD frames that follow. A keyframe wins over a frame
  before it, so that decoding that begins at the keyframe keeps the same frames.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Generic, TypeVar

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


@dataclass(frozen=True, slots=True)
class Stamped(Generic[Item]):
    """A frame in the order of output.

    item: the frame itself.
    time_s: its time stamp in seconds.
    is_key: whether decoding may begin at this frame.
    """

    item: Item
    time_s: Fraction
    is_key: bool


def in_line(frames: Iterable[Stamped[Item]], *, entered: bool = False) -> Iterator[Stamped[Item]]:
    """Yield the frames whose stamps are credible, with rising times. Raises FellBack.

    entered: whether decoding began at the first of them, a keyframe that was found in the middle of the video by its
        stamp.
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
    """Return whether to drop a frame in favour of following frames that have earlier stamps."""
    earlier = [
        frame for frame in following if frame.time_s <= head.time_s and (last_s is None or frame.time_s > last_s)
    ]
    if not earlier or len(earlier) > 1:
        return bool(earlier)
    if trusted:
        return False
    if len(following) == 1:  # of the last two frames a keyframe is kept; otherwise the distance shows the wrong stamp
        if head.is_key != earlier[0].is_key:
            return earlier[0].is_key
        return head.time_s - earlier[0].time_s > FALL_BACK_S
    return following[0] is earlier[0] and following[0].is_key


def is_lone_start(times_s: Sequence[Fraction]) -> bool:
    """Return whether the first of a video's first frames has a stamp from another clock than the rest."""
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    return len(gaps) > 1 and gaps[0] > max(LONE_GAP_S, LONE_GAP_RATIO * max(gaps[1:]))
