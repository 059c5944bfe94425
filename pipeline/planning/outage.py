"""The breaker ends a run when a whole place is asleep. Otherwise each of thousands of videos would take minutes to
fail."""

from dataclasses import dataclass, field

from pipeline.errors import PassingError

OUTAGE_VIDEOS = 20
"""Number of different videos that fail in a row, without a success between them, after which the place itself counts
as unreachable."""


@dataclass
class OutageBreaker:
    """Counts the videos that cannot be reached, one after the other."""

    _in_a_row: set[str] = field(default_factory=set)

    def fail(self, name: str, reason: str) -> None:
        """Note that the video or source `name` cannot be reached. Raises PassingError if it is one too many."""
        self._in_a_row.add(name)
        if len(self._in_a_row) >= OUTAGE_VIDEOS:
            raise PassingError(f"{len(self._in_a_row)} videos in a row cannot be reached: {reason}")

    def succeed(self) -> None:
        """Note that something could be read or written."""
        self._in_a_row.clear()
