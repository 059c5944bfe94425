"""Who of the persons of consecutive files of one camera are one.

A file has decided about its own persons: two of them are two people. So each is to the linker one long tracklet, and
two of one file are seen together. Shots are counted over all files, and where the picture goes on uncut from one file
to the next, so does the shot. What holds in a video holds here: inside a shot somebody is followed over a gap, and
known again by the face; over a cut, a missing file or a long pause by the body too.

Where what is known of a file has gone, its persons keep the numbers that they were given. Whoever was found to be one
of them stays that: such persons count as one, and no two of them are joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likenesses
from pipeline.cores.link import IdentityParams, Tracklet, link

CLOCK_US = 1_000_000
"""Containers state whole seconds: files that lie no further apart follow one another without a gap."""


class Times(StrEnum):
    """How it is known when the files of a sequence began."""

    LISTED = "as listed"
    RECORDED = "as recorded"
    END_TO_END = "end to end"


@dataclass(frozen=True, slots=True)
class Span:
    """One file of a sequence. listed_us, recorded_us: when it began, as a list and as its container say, if they do.

    duration_us: None of a file that could not be processed.
    """

    listed_us: int | None
    recorded_us: int | None
    duration_us: int | None


def lay_out(spans: Sequence[Span]) -> tuple[NDArray[np.int64], Times]:
    """When each file begins, in us from the first: (N,) int64, rising; and how that is known.

    Stated times are believed where every processed file has one and none begins before the one ahead of it has ended:
    some muxers write when they finished, or one time for all. Otherwise the files follow without a gap, where one of
    unknown length is taken to be as long as the longest.
    """
    there = [number for number, span in enumerate(spans) if span.duration_us is not None]
    lengths = np.array([span.duration_us or 0 for span in spans], np.int64)
    for times, stated in (
        (Times.LISTED, [spans[number].listed_us for number in there]),
        (Times.RECORDED, [spans[number].recorded_us for number in there]),
    ):
        if there and None not in stated:
            gaps_us = np.diff(np.array(stated, np.int64)) - lengths[there][:-1]
            if (gaps_us >= -CLOCK_US).all():
                steps_us = lengths[there][:-1] + np.where(gaps_us > CLOCK_US, gaps_us, 0)
                starts = np.zeros(len(spans), np.int64)
                starts[there] = np.concatenate([[0], np.cumsum(steps_us)])
                return np.maximum.accumulate(starts), times
    lengths[[span.duration_us is None for span in spans]] = lengths.max(initial=0)
    return np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(np.int64), Times.END_TO_END


@dataclass(frozen=True, slots=True)
class FilePerson:
    """A person of one file. known: the number that it was given before, 0 for none.

    seen: shots and times of the sequence, the file's number for a frame; None where what was known of it has gone.
    """

    file: int
    known: int
    seen: Tracklet | None


def merged(parts: Sequence[Tracklet], body_weights: Sequence[float], face_weights: Sequence[float]) -> Tracklet:
    """One tracklet of those of one person, none of which overlap: its first head, its last tail, weighted means."""
    first = min(parts, key=lambda part: int(part.head_ns[0]))
    last = max(parts, key=lambda part: int(part.tail_ns[-1]))
    return replace(
        last,
        intervals=np.unique(np.concatenate([part.intervals for part in parts]), axis=0),
        head_ns=first.head_ns,
        head_boxes=first.head_boxes,
        first_box=first.first_box,
        body=_mean([part.body for part in parts], body_weights),
        face=_mean([part.face for part in parts], face_weights),
        ends=((first.ends or (first.shot,))[0], (last.ends or (last.shot,))[-1]),
    )


def number_sequence(persons: Sequence[FilePerson], params: IdentityParams, priors: Likenesses) -> NDArray[np.int64]:
    """The number of each person in the sequence: (N,) int64 from 1, in order of first appearance.

    persons: file after file, each file's in order of appearance. priors: what the files say that a similarity is worth.
    Where all is known, numbers that were given before are not asked for.
    """
    lost = {person.known for person in persons if person.seen is None and person.known}
    apart = 1 + max((person.file for person in persons), default=0)
    elements: dict[tuple[str, int], list[int]] = {}
    for place, person in enumerate(persons):
        key = ("lost", person.known) if person.known in lost else ("own", place)
        elements.setdefault(key, []).append(place)
    summaries: dict[tuple[str, int], Tracklet] = {}
    for key, places in elements.items():
        parts = [seen for place in places if (seen := persons[place].seen) is not None]
        if parts:
            one = merged(parts, [1.0] * len(parts), [1.0] * len(parts)) if len(parts) > 1 else parts[0]
            if one.ends and one.ends[0] != one.ends[1]:
                one = replace(one, shot=-1 - len(summaries))
            with_all_lost = [np.array([[apart, apart + 1]])] if key[0] == "lost" else []
            summaries[key] = replace(one, intervals=np.concatenate([one.intervals, *with_all_lost]))
    # Whom their file keeps apart cannot be joined: they take no candidate's place.
    most = int(np.bincount([person.file for person in persons]).max(initial=0))
    own = replace(params, candidates=params.candidates + most)
    _, labels = link(list(summaries.values()), own, priors)
    label_of: dict[tuple[str, int], object] = dict(zip(summaries, labels.tolist(), strict=True))
    groups: dict[object, list[int]] = {}
    for key, places in elements.items():
        groups.setdefault(label_of.get(key, key), []).extend(places)

    numbers = np.zeros(len(persons), np.int64)
    taken = set(lost)
    top = max(person.known for person in persons) if lost else 0
    for places in sorted(groups.values(), key=min):
        known = [persons[place].known for place in sorted(places) if lost and persons[place].known]
        number = next((n for n in known if n in lost), 0) or next((n for n in known if n not in taken), 0)
        if not number:
            number = top = top + 1
        taken.add(number)
        numbers[places] = number
    return numbers


def _mean(vectors: Sequence[NDArray[np.float32] | None], weights: Sequence[float]) -> NDArray[np.float32] | None:
    known = [(vector, weight) for vector, weight in zip(vectors, weights, strict=True) if vector is not None]
    if not known:
        return None
    total = np.sum([vector.astype(np.float64) * weight for vector, weight in known], axis=0)
    norm = float(np.linalg.norm(total))
    return (total / norm).astype(np.float32) if norm > 0 else None
