"""When people are in the picture: the time that each is there, and cues that say who is there.

Spans are half-open, in seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Cue:
    """A stretch of time in which the same people are named. persons: rising."""

    start_s: float
    end_s: float
    persons: tuple[int, ...]


def joined_spans(spans: Iterable[Span], max_gap_s: float = 0.0) -> list[Span]:
    """Return spans in order, without overlaps. Spans with a gap of at most `max_gap_s` between them are joined."""
    joined: list[Span] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s - joined[-1][1] <= max_gap_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def covered_s(spans: Iterable[Span]) -> float:
    """Return the time that at least one of the spans covers."""
    return sum(end_s - start_s for start_s, end_s in joined_spans(spans))


def cues(spans_by_person: Mapping[int, Sequence[Span]], max_gap_s: float, min_cue_s: float) -> list[Cue]:
    """Return cues that name everybody who is in the picture, without flicker.

    A person who is away for at most `max_gap_s` stays in the cue. A cue shorter than `min_cue_s` is joined with the
    next one, and names the people of both. If nobody is there after it, it is joined with the cue before, unless that
    one does not name its people.
    """
    changes: dict[float, list[tuple[int, bool]]] = {}
    for person, spans in spans_by_person.items():
        for start_s, end_s in joined_spans(spans, max_gap_s):
            if end_s > start_s:
                changes.setdefault(start_s, []).append((person, True))
                changes.setdefault(end_s, []).append((person, False))
    made: list[Cue] = []
    present: set[int] = set()
    named: set[int] = set()
    began_s = 0.0
    for time_s in sorted(changes):
        if named and (time_s - began_s >= min_cue_s or not _after(present, changes[time_s])):
            _append(made, Cue(began_s, time_s, tuple(sorted(named))), min_cue_s)
            named = set()
        present = _after(present, changes[time_s])
        if not named:
            began_s = time_s
        named |= present
    return made


def _after(present: set[int], changes: Iterable[tuple[int, bool]]) -> set[int]:
    arrived = {person for person, comes in changes if comes}
    return (present - {person for person, comes in changes if not comes}) | arrived


def _append(made: list[Cue], cue: Cue, min_cue_s: float) -> None:
    before = made[-1] if made and made[-1].end_s == cue.start_s else None
    is_short = cue.end_s - cue.start_s < min_cue_s
    if before and (before.persons == cue.persons or (is_short and set(cue.persons) <= set(before.persons))):
        made[-1] = Cue(before.start_s, cue.end_s, before.persons)
    else:
        made.append(cue)
