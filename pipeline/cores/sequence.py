"""Link the persons of consecutive files of one camera.

Each file has decided about its own persons, so two persons of one file are two people. The linker therefore treats
each person as one long tracklet, and persons of one file as if they shared a frame. Shots are counted over all
files, and a shot continues where the picture continues without a cut. The rules are those inside a video. Within a
shot, people are linked over gaps, by the face, and up to `max_absence_s` by the body. Over a cut, a missing file or a
long pause they are always linked by the body, too.

If the summary of a file is gone, its persons keep their numbers. Persons that were joined with one of them stay
joined. They count as one, and two of them are never joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.linking import link
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet

CLOCK_US = 1_000_000
"""Containers state whole seconds, so files that are this close follow one another without a gap."""


class Times(StrEnum):
    """The source of the start times of a sequence's files."""

    LISTED = "as listed"
    RECORDED = "as recorded"
    END_TO_END = "end to end"


@dataclass(frozen=True, slots=True)
class RecordedTime:
    """One file of a sequence.

    listed_us, recorded_us: start time by the list and by the container, if stated.
    duration_us: None if the file could not be processed.
    """

    listed_us: int | None
    recorded_us: int | None
    duration_us: int | None


def lay_out(spans: Sequence[RecordedTime]) -> tuple[NDArray[np.int64], Times]:
    """Return the start of each file in us from the first, (N,) int64, rising, and the source of these times.

    Stated times count if every processed file has one and no file begins before the previous one has ended, because
    some muxers write the end time, or one time for all. Otherwise the files follow without a gap. A file of unknown
    length counts as long as the longest.
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
    """A person of one file.

    known: the number that it got before. 0 for none.
    summary: its tracklet with shots and times of the sequence, and the file's number as frame. None if its summary is
        gone.
    """

    file: int
    known: int
    summary: Tracklet | None


def merged(parts: Sequence[Tracklet], body_weights: Sequence[float], face_weights: Sequence[float]) -> Tracklet:
    """Merge the tracklets of one person, which do not overlap: the first head, the last tail, weighted means."""
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
        cut_off=(first.cut_off[0], last.cut_off[1]),
    )


def number_sequence(persons: Sequence[FilePerson], params: IdentityParams, priors: Likenesses) -> NDArray[np.int64]:
    """Return the number of each person in the sequence: (N,) int64 from 1, in order of first appearance.

    If all summaries exist, earlier numbers are ignored.

    persons: file after file, each file's in order of appearance.
    priors: likenesses of the files.
    """
    lost = {person.known for person in persons if person.summary is None and person.known}
    apart = 1 + max((person.file for person in persons), default=0)
    elements: dict[tuple[str, int], list[int]] = {}
    for place, person in enumerate(persons):
        key = ("lost", person.known) if person.known in lost else ("own", place)
        elements.setdefault(key, []).append(place)
    summaries: dict[tuple[str, int], Tracklet] = {}
    for key, places in elements.items():
        parts = [summary for place in places if (summary := persons[place].summary) is not None]
        if parts:
            whole = merged(parts, [1.0] * len(parts), [1.0] * len(parts)) if len(parts) > 1 else parts[0]
            if whole.ends and whole.ends[0] != whole.ends[1]:
                whole = replace(whole, shot=-1 - len(summaries))
            with_all_lost = [np.array([[apart, apart + 1]])] if key[0] == "lost" else []
            summaries[key] = replace(whole, intervals=np.concatenate([whole.intervals, *with_all_lost]))
    # Persons of one file cannot be joined, so they take no candidate's place.
    most = int(np.bincount([person.file for person in persons]).max(initial=0))
    widened = replace(params, candidates=params.candidates + most)
    _, labels = link(list(summaries.values()), widened, priors)
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
