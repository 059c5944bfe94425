"""Compare ways of doing the same work: in one run, in turns, several times. The median counts, and its spread is
stated.

A machine that others use too grows slower and faster while a bench runs. Ways that take turns share that, so the ratio
of two of them within a round is steadier than either time. CPU seconds are steadier than seconds of the clock.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Event
from typing import Any

Measures = Mapping[str, float]
"""The figures of one repeat by name, as seconds or cpu_seconds."""
Rounds = Sequence[Mapping[str, Measures]]
"""The figures of each way in each round."""
SECONDS, CPU_SECONDS = "seconds", "cpu_seconds"
interrupted = Event()
"""Set when Ctrl-C ended the turns after a whole round. The figures of the rounds that finished then count, and
`Report.published` ends the bench."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure that was measured several times.

    values: in the order of the repeats.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return median(self.values)

    def plain(self) -> dict[str, Any]:
        """Return the figure for JSON: median, lowest, highest and all values."""
        low, high = min(self.values), max(self.values)
        shortened = {"median": _short(self.median), "low": _short(low), "high": _short(high)}
        return shortened | {"values": [_short(value) for value in self.values]}

    def text(self) -> str:
        """Return the figure for a table: the median, and the lowest and highest value if they differ."""
        shown = [_shown(value) for value in (self.median, min(self.values), max(self.values))]
        return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"


@dataclass(slots=True)
class Spent:
    """The time of a block of code, complete at its end.

    seconds: s of the clock.
    cpu_seconds: s of CPU, of all threads of the metered processes.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def measures(self) -> dict[str, float]:
        """Return both times by name."""
        return {SECONDS: self.seconds, CPU_SECONDS: self.cpu_seconds}


@contextmanager
def stopwatch(cpu_clock: Callable[[], float] = time.process_time) -> Iterator[Spent]:
    """Yield the time that the block takes.

    cpu_clock: s of CPU so far; by default those of this process with all its threads.
    """
    spent, started, cpu_started = Spent(), time.perf_counter(), cpu_clock()
    try:
        yield spent
    finally:
        spent.seconds, spent.cpu_seconds = time.perf_counter() - started, cpu_clock() - cpu_started


def take_turns(
    ways: Mapping[str, Callable[[], Measures]], repeats: int, tell: Callable[[str], None] = lambda _: None
) -> Rounds:
    """Go every way once in each of `repeats` rounds, in one order and in the opposite one in turn. Return the figures
    of all rounds, or at Ctrl-C those of the rounds that finished. After that, no other turns begin.

    tell: gets a line before each repeat.
    """
    if interrupted.is_set():
        raise KeyboardInterrupt
    rounds: list[Mapping[str, Measures]] = []
    try:
        for number in range(repeats):
            measured: dict[str, Measures] = {}
            for name in ways if number % 2 == 0 else reversed(list(ways)):
                tell(f"round {number + 1} of {repeats}: {name}")
                measured[name] = ways[name]()
            rounds.append({name: measured[name] for name in ways})
    except KeyboardInterrupt:
        if not rounds:
            raise
        interrupted.set()
    return rounds


def spread_of(rounds: Rounds, way: str, measure: str) -> Spread:
    """Return the spread of one figure of one way."""
    return Spread(tuple(measured[way][measure] for measured in rounds))


def spreads_of(rounds: Rounds, way: str) -> dict[str, Spread]:
    """Return the spreads of all figures of one way."""
    return {measure: spread_of(rounds, way, measure) for measure in rounds[0][way]}


def ratio_of(rounds: Rounds, measure: str, above: str, below: str) -> Spread:
    """Return how many times as much of `measure` the way `above` takes as the way `below`, within each round."""
    return Spread(tuple(measured[above][measure] / measured[below][measure] for measured in rounds))


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
