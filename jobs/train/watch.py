"""Show the progress of a training: a bar on a terminal, a line every half minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.cli.console import LOG_EVERY_S, console, say

Advance = Callable[[int, Mapping[str, float]], None]
"""Takes the number of steps done, including earlier attempts, and the figures of the last one."""


@contextmanager
def watching(num_steps: int) -> Iterator[Advance]:
    """Yield an Advance that shows the progress of a training of `num_steps` steps."""
    if not sys.stdout.isatty():
        logged_s = time.monotonic()

        def log(done: int, figures: Mapping[str, float]) -> None:
            nonlocal logged_s
            if time.monotonic() - logged_s >= LOG_EVERY_S or done == num_steps:
                logged_s = time.monotonic()
                say(f"{done}/{num_steps} {_text(figures)}")

        yield log
        return
    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=num_steps, text="")
        yield lambda done, figures: bar.update(task, completed=done, text=_text(figures))


def _text(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())
