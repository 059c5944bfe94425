"""Measure an output on labelled persons: who is found, who gets an age and a gender, and how many of them are right.

A person counts once, however many faces or pictures the video has of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.boxes import pairwise_iou
from pipeline.cores.groups import group_indices, parse_age_groups
from pipeline.cores.wilson import Share
from pipeline.corpora.labelled_persons import LabelledBox, LabelledPerson
from pipeline.evaluation.tracking import MIN_IOU

WITHIN_S = 0.1
"""Seconds. A box of the result counts if its frame is at most so far from the labelled moment."""
AGES = parse_age_groups("0-12,13-19,20-39,40-59,60+")
"""Groups of the middle of a labelled range. Labels by eye do not tell finer ones."""
FACES = ((0, "no face"), (1, "below 32 px"), (32, "32–95 px"), (96, "96 px and more"))
"""Smallest width of a face in px, and the name of the group."""
UNKNOWN = "cannot tell"
RIGHT, WRONG, NONE = "right", "wrong", "none"
DIGITS = 4

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A person of the result.

    person_id: of the row of `persons`.
    judged: whether a face or a body of it was judged.
    age: years, None without an estimate.
    gender: M, F, or N without an estimate.
    """

    person_id: int
    judged: bool
    age: float | None
    gender: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled person and the persons of the result that were found for it.

    estimate: of the person that was found at most of its labelled moments, the first of equals. None if nobody was.
    joined: whether a person of the result that was found for it was found for another labelled person too.
    person_ids: all that were found for it, in the order of its moments.
    """

    label: LabelledPerson
    estimate: Estimate | None
    joined: bool = False
    person_ids: tuple[int, ...] = ()

    @property
    def is_split(self) -> bool | None:
        """Whether it is several persons of the result. None if it was found at fewer than two moments."""
        return len(set(self.person_ids)) > 1 if len(self.person_ids) > 1 else None

    @property
    def gender(self) -> str | None:
        """RIGHT, WRONG or NONE. None if the person was not found or nobody can tell its gender."""
        if self.estimate is None or self.label.gender is None:
            return None
        given = self.estimate.gender
        return NONE if given not in ("M", "F") else RIGHT if given == self.label.gender else WRONG

    @property
    def age(self) -> str | None:
        """RIGHT (in the labelled range), WRONG or NONE. None if the person was not found or nobody can tell its age."""
        if self.estimate is None or np.isnan(self.label.age):
            return None
        age = self.estimate.age
        return NONE if age is None else RIGHT if self.label.age_low <= age < self.label.age_high + 1 else WRONG

    @property
    def years_off(self) -> float:
        """Years from the estimated age to the labelled range: 0 in it, and 0 if one of them is missing. Who is 24 has
        not had the 25th birthday, so that the range ends there."""
        if self.estimate is None or self.estimate.age is None or np.isnan(self.label.age):
            return 0.0
        return max(self.label.age_low - self.estimate.age, self.estimate.age - self.label.age_high - 1, 0.0)


def match(
    labels: Sequence[LabelledBox],
    times_s: NDArray[np.float64],
    boxes: NDArray[np.float32],
    person_ids: NDArray[np.int64],
) -> list[int | None]:
    """Return the person_id in the result of each labelled box of one video, or None.

    Boxes of one moment get different persons, so that the sum of their IoUs is largest. An IoU counts from MIN_IOU.

    times_s, boxes, person_ids: (N,), (N, 4) xyxy px and (N,). The result's boxes in this video.
    """
    matches: list[int | None] = [None] * len(labels)
    for moment in {label.time_s for label in labels}:
        chosen = [place for place, label in enumerate(labels) if label.time_s == moment]
        near = np.abs(times_s - moment) <= WITHIN_S
        candidates, columns = np.unique(person_ids[near], return_inverse=True)
        ious = pairwise_iou(np.array([labels[place].box for place in chosen], np.float32), boxes[near])
        best = np.zeros((len(chosen), len(candidates)))
        np.maximum.at(best.T, columns, ious.T)
        best[best < MIN_IOU] = 0
        for row, column in zip(*linear_sum_assignment(best, maximize=True), strict=True):
            if best[row, column]:
                matches[chosen[row]] = int(candidates[column])
    return matches


def judge(
    labels: Sequence[LabelledPerson], matches: Sequence[int | None], estimates: Mapping[int, Estimate]
) -> list[Judged]:
    """Return each labelled person of one video with what the result says of it.

    matches: of all boxes of the labels, in their order.
    """
    rest = iter(matches)
    found = [tuple(name for name in (next(rest) for _ in label.boxes) if name is not None) for label in labels]
    num_labels = Counter(name for names in found for name in set(names))
    people: list[Judged] = []
    for label, names in zip(labels, found, strict=True):
        estimate = estimates[Counter(names).most_common(1)[0][0]] if names else None
        people.append(Judged(label, estimate, any(num_labels[name] > 1 for name in names), names))
    return people


def summary(people: Sequence[Judged]) -> dict[str, Any]:
    """Return `pooled`, the figures of all, and `by`: face, gender and age -> name of the group -> figures."""

    def by(group_of: Callable[[Judged], str], names: Iterable[str]) -> dict[str, Figures]:
        groups = {name: [person for person in people if group_of(person) == name] for name in names}
        return {name: figures(members) for name, members in groups.items() if members}

    ages = [group.name for group in AGES]
    return {
        "pooled": figures(people),
        "by": {
            "face": by(lambda person: _face_group(person.label.face_px), [name for _, name in FACES]),
            "gender": by(lambda person: person.label.gender or UNKNOWN, ("F", "M", UNKNOWN)),
            "age": by(lambda person: _age_group(person.label.age), [*ages, UNKNOWN]),
        },
    }


def figures(people: Sequence[Judged]) -> Figures:
    """Return the figures of a group.

    - persons: labelled ones
    - joined: number that share a person of the result with another labelled one
    - found: of all; judged: of those found; split: of those found at two labelled moments or more
    - gender_right, gender_wrong, gender_none, and the same of age: of those found whose label tells it
    - age_years_off: mean years to the labelled range of those with an estimate. None without any.

    Each from `found` on, but the last, has count, of, and share, low, high (Wilson, 95 %), which are None of nobody.
    """
    found = [person for person in people if person.estimate is not None]
    values: Figures = {
        "persons": len(people),
        "joined": sum(person.joined for person in people),
        "found": _share(len(found), len(people)),
        "judged": _share(sum(person.estimate is not None and person.estimate.judged for person in found), len(found)),
    }
    splits = [person.is_split for person in found if person.is_split is not None]
    values["split"] = _share(sum(splits), len(splits))
    verdicts = {"gender": [person.gender for person in found], "age": [person.age for person in found]}
    for name, given in verdicts.items():
        told = sum(verdict is not None for verdict in given)
        values |= {f"{name}_{verdict}": _share(given.count(verdict), told) for verdict in (RIGHT, WRONG, NONE)}
    off = [person.years_off for person in found if person.age in (RIGHT, WRONG)]
    return values | {"age_years_off": round(float(np.mean(off)), DIGITS) if off else None}


def _share(part: int, whole: int) -> dict[str, float | int | None]:
    if not whole:
        return {"count": part, "of": 0, "share": None, "low": None, "high": None}
    share = Share.of(part, whole)
    ends = {"share": share.value, "low": share.low, "high": share.high}
    return {"count": part, "of": whole, **{name: round(value, DIGITS) for name, value in ends.items()}}


def _face_group(face_px: float) -> str:
    return [name for smallest, name in FACES if face_px >= smallest][-1]


def _age_group(age: float) -> str:
    place = int(group_indices(np.array([age]), AGES)[0])
    return UNKNOWN if place < 0 else AGES[place].name
