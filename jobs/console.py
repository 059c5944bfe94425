"""What a person is told while a job runs: a live line on a terminal, sober lines in a log."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.english import count
from pipeline.text import printable

__all__ = ["Meter", "console", "contents", "count", "duration", "is_picture", "length", "meter", "patiently", "say"]

LOG_EVERY_S = 30
PATIENCE_S = 5
"""Work that takes longer says how far it is, as often."""
SHOWN_NAMES = 5
LONGEST_NAME = 80

WIDE = 1000
"""Columns of a log: rows of tables stay whole lines there, as `grep` wants them."""


class PlainConsole(Console):
    """Shows text as it is: names of files may hold [red], :smile:, ends of lines and what steers a terminal."""

    def render_str(self, text: str, **how: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().render_str(printable(text), **how)


console = PlainConsole(
    highlight=False, soft_wrap=True, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE
)


def say(text: str) -> None:
    console.print(text)


def last(uri: str) -> str:
    """The last part of a place's name; a long one without its middle."""
    name = uri.rstrip("/").rpartition("/")[2] or uri
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def few(uris: Sequence[str]) -> str:
    """The names of a few places, and how many more there are."""
    shown = ", ".join(map(last, uris[:SHOWN_NAMES]))
    return shown + (f" and {len(uris) - SHOWN_NAMES} more" if len(uris) > SHOWN_NAMES else "")


@contextmanager
def patiently(text: Callable[[int], str]) -> Iterator[Callable[[], None]]:
    """A function to call for each thing that is done in the block. Where the block takes long, lines say how far it is.

    text: makes a line from the number of things done. It is said from a thread: one slow thing does not silence it.
    """
    done, ended, latest = 0, Event(), ""

    def advance() -> None:
        nonlocal done
        done += 1

    def tell() -> None:
        nonlocal latest
        while not ended.wait(PATIENCE_S):
            if (line := text(done)) != latest:
                say(latest := line)

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()


class Meter:
    """Counts frames and videos, and shows both. Frames are an estimate of the containers until a video is done."""

    def __init__(self, num_videos: int, num_frames: int, bar: Progress | None, noun: str = "videos") -> None:
        self._num_videos, self._num_frames = num_videos, max(num_frames, 1)
        self._noun = noun
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
        text = f"{self._videos}/{self._num_videos} {self._noun}"
        if self._frames:
            text += f", {count(self._frames, 'frame')}, {rate:.{0 if rate >= 10 else 1}f} frames/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(self._frames, self._num_frames), text=text)
        elif now - self._told >= LOG_EVERY_S or self._videos == self._num_videos:
            self._told = now
            left_s = (self._num_frames - self._frames) / rate if rate > 0 else 0
            left = f", about {duration(left_s)} left" if left_s > 0 else ", tracking and linking"
            say(text + left * (self._videos < self._num_videos))


@contextmanager
def meter(num_videos: int, num_frames: int, noun: str = "videos") -> Iterator[Meter]:
    """A Meter for the length of a block."""
    if not sys.stdout.isatty():
        yield Meter(num_videos, num_frames, None, noun)
        return
    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(num_videos, num_frames, bar, noun)


def contents(rows: Collection[Mapping[str, Any]]) -> str:
    """How many videos and pictures there are in rows of `videos`: '2 videos and 1 picture'."""
    pictures = sum(is_picture(row) for row in rows)
    return videos_and_pictures(len(rows) - pictures, pictures)


def videos_and_pictures(videos: int, pictures: int) -> str:
    """1, 2 -> '1 video and 2 pictures'; nothing is said of what there is none of."""
    named = [count(number, noun) for number, noun in ((videos, "video"), (pictures, "picture")) if number]
    return " and ".join(named) or "0 videos"


def is_picture(row: Mapping[str, Any]) -> bool:
    """Whether a row of `videos` that is done is of a picture: it has no frames a second."""
    return row["fps"] is None and row["num_frames"] == 1


def length(row: Mapping[str, Any]) -> str:
    """How long the video of a row of `videos` is."""
    return "picture" if is_picture(row) else f"{row['duration_s']:.1f} s"


def duration(seconds: float) -> str:
    """3700 -> '1 h 02 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
