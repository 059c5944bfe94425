"""What a person is told while a job runs: a live line on a terminal, sober lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 30

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    console.print(text, markup=False)


class Meter:
    """Counts frames and videos, and shows both. Frames are an estimate of the containers until a video is done."""

    def __init__(self, num_videos: int, num_frames: int, bar: Progress | None) -> None:
        self._num_videos, self._num_frames = num_videos, max(num_frames, 1)
        self._videos = self._frames = 0
        self._started = self._told = time.monotonic()
        self._bar = bar
        self._task = bar.add_task("", total=self._num_frames, text="loading models") if bar else None

    def add_frames(self, count: int) -> None:
        self._frames += count
        self._show()

    def add_video(self) -> None:
        self._videos += 1
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        rate = self._frames / max(now - self._started, 1e-9)
        text = f"{self._videos}/{self._num_videos} videos, {self._frames:,} frames, {rate:.0f} frames/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(self._frames, self._num_frames), text=text)
        elif now - self._told >= LOG_EVERY_S or self._videos == self._num_videos:
            self._told = now
            left_s = (self._num_frames - self._frames) / rate if rate > 0 else 0
            left = f", about {duration(left_s)} left" if left_s > 0 else ", tracking and linking"
            say(text + left * (self._videos < self._num_videos))


@contextmanager
def meter(num_videos: int, num_frames: int) -> Iterator[Meter]:
    """A Meter for the length of a block."""
    if not sys.stdout.isatty():
        yield Meter(num_videos, num_frames, None)
        return
    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(num_videos, num_frames, bar)


def count(number: int, noun: str) -> str:
    """2, 'video' -> '2 videos'."""
    return f"{number} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """3700 -> '1 h 02 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
