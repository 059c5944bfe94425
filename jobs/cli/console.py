"""Messages to a person while a job runs: a live line on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.text import count, printable

__all__ = ["Meter", "console", "contents", "count", "counter", "duration", "is_picture", "length", "meter", "say"]

LOG_EVERY_S = 30
PATIENCE_S = 5
"""Seconds. Work that takes longer says how far it is, at this interval."""
SHOWN_NAMES = 5
LONGEST_NAME = 80

WIDE = 1000
"""Columns of a log. Rows of tables stay whole lines there, so that `grep` works on them."""


class PlainConsole(Console):
    """Shows text as it is. Names of files may hold [red], :smile:, ends of lines and control characters of a
    terminal."""

    def render_str(self, text: str, **how: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the text with its control characters written out."""
        return super().render_str(printable(text), **how)


console = PlainConsole(
    highlight=False, soft_wrap=True, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE
)


def say(text: str) -> None:
    """Print a line."""
    console.print(text)


def last(uri: str) -> str:
    """Return the last part of a place's name. The middle of a long name is left out."""
    name = uri.rstrip("/").rpartition("/")[2] or uri
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def few(uris: Sequence[str]) -> str:
    """Return the names of a few places, and how many more there are."""
    shown = ", ".join(map(last, uris[:SHOWN_NAMES]))
    return shown + (f" and {len(uris) - SHOWN_NAMES} more" if len(uris) > SHOWN_NAMES else "")


@contextmanager
def counter(text: Callable[[int], str]) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each thing that is done in the block. If the block takes long, print its
    progress.

    text: makes a line from the number of things done. A thread prints it, so that one slow thing does not silence
    it.
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


class LiveProgress(Progress):
    """A bar with lines below it.

    lines: the lines, which are cut at the width of the terminal.
    """

    lines: Sequence[str] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar and the lines."""
        yield self.make_tasks_table(self.tasks)
        for line in self.lines:
            yield Text(printable(line), no_wrap=True, overflow="ellipsis")


PROCESS_STEPS = ("loading models", "tracking and linking")


class Meter:
    """Counts what a run has done and what it has found, and shows both. The frames of a video are an estimate of its
    container until it is done."""

    def __init__(
        self,
        num_videos: int,
        num_frames: int,
        bar: LiveProgress | None,
        noun: str = "videos",
        steps: tuple[str, str] = PROCESS_STEPS,
    ) -> None:
        self._num_videos, self._num_frames = num_videos, num_frames
        self._noun, (first_step, self._last_step) = noun, steps
        self._videos = self._frames = self._persons = self._detections = 0
        self._latest = ""
        self._started = self._told = time.monotonic()
        self._bar = bar
        self._task = bar.add_task("", total=num_frames or num_videos) if bar else None
        if bar:
            bar.lines = [first_step]

    def add_frames(self, frames: int, detections: int = 0) -> None:
        """Count frames that are done, and the people who were detected in them."""
        self._frames += frames
        self._detections += detections
        self._show()

    def add_video(self, name: str = "", persons: int = 0) -> None:
        """Count a video that is done. name: shown with the number of its persons, if given."""
        self._videos += 1
        self._persons += persons
        if name:
            self._latest = f"{name}: {count(persons, 'person')}"
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        rate = self._frames / max(now - self._started, 1e-9)
        parts = [f"{self._videos}/{self._num_videos} {self._noun}"]
        if self._persons:
            parts.append(count(self._persons, "person"))
        if self._detections:
            parts.append(count(self._detections, "detection"))
        if self._frames:
            parts += [count(self._frames, "frame"), f"{rate:.{0 if rate >= 10 else 1}f} frames/s"]
        is_linking = self._frames >= self._num_frames > 0 and self._videos < self._num_videos
        text = ", ".join(parts) + f", {self._last_step}" * is_linking
        if self._bar is not None and self._task is not None:
            self._bar.lines = [text, *([self._latest] if self._latest else [])]
            done = min(self._frames, self._num_frames) if self._num_frames else self._videos  # pictures have no length
            self._bar.update(self._task, completed=done)
        elif now - self._told >= LOG_EVERY_S or self._videos == self._num_videos:
            self._told = now
            left_s = (self._num_frames - self._frames) / rate if rate > 0 else 0
            say(text + f", about {duration(left_s)} left" * (left_s > 0 and self._videos < self._num_videos))


@contextmanager
def meter(
    num_videos: int, num_frames: int, noun: str = "videos", steps: tuple[str, str] = PROCESS_STEPS
) -> Iterator[Meter]:
    """Yield a Meter that lives as long as the block.

    steps: the work before the first frame, and the work after the last one.
    """
    if not sys.stdout.isatty():
        yield Meter(num_videos, num_frames, None, noun, steps)
        return
    columns = (BarColumn(bar_width=30), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left"))
    with LiveProgress(*columns, console=console, transient=True) as bar:
        yield Meter(num_videos, num_frames, bar, noun, steps)


def contents(rows: Collection[Mapping[str, Any]]) -> str:
    """Return how many videos and pictures there are in rows of `videos`: '2 videos and 1 picture'."""
    pictures = sum(is_picture(row) for row in rows)
    return videos_and_pictures(len(rows) - pictures, pictures)


def videos_and_pictures(videos: int, pictures: int) -> str:
    """Return numbers in words: 1, 2 -> '1 video and 2 pictures'. A kind with none is not mentioned."""
    named = [count(number, noun) for number, noun in ((videos, "video"), (pictures, "picture")) if number]
    return " and ".join(named) or "0 videos"


def is_picture(row: Mapping[str, Any]) -> bool:
    """Return whether a row of `videos` that is done describes a picture: it has no frame rate."""
    return row["fps"] is None and row["num_frames"] == 1


def length(row: Mapping[str, Any]) -> str:
    """Return the length of the video in a row of `videos`, for display."""
    return "picture" if is_picture(row) else f"{row['duration_s']:.1f} s"


def duration(seconds: float) -> str:
    """Return a duration for display: 3700 s -> '1 h 02 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
