"""How the estimates differ between groups: who gets none, how good the faces are, and how wide the intervals are.

A person counts in the group that the judged faces point to, also if they were too few or too unlike for an estimate.
Otherwise the groups would hold only people with an estimate, and nobody in them would lack one. No such guess leaves
this module for a single person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.cores.groups import NEAREST_ADIENCE, AgeGroup, group_indices, hidden_counts
from pipeline.cores.wilson import Share
from pipeline.report.cards import Card, MeasuredErrors
from pipeline.report.people import People
from pipeline.report.values import flags, integers, places, reals

FACES = ("video_id", "person_id", "quality", "judged", "age", "female_prob")
"""The columns of `faces` that a report reads."""
NO_FACE, FEMALE, MALE = "no judged face", "female", "male"


@dataclass(frozen=True, slots=True)
class GroupFairness:
    """The estimates of one group of people. All figures but `name` and `measured` are None if the group is hidden.

    num_people: number of persons.
    no_age, no_gender: share of the persons without an estimate.
    judged: share of the faces found on them that were judged. None without faces.
    quality: median over the persons of the mean quality of their judged faces, 0..1. None without such faces.
    width: quartiles of the width of the age's interval, years. None if nobody has an age.
    measured: errors of the estimator on labelled faces of the group. None if they are not known.
    """

    name: str
    num_people: int | None
    no_age: Share | None = None
    no_gender: Share | None = None
    judged: Share | None = None
    quality: float | None = None
    width: tuple[float, float, float] | None = None
    measured: MeasuredErrors | None = None


@dataclass(frozen=True, slots=True)
class Fairness:
    """The estimates by group.

    overall: of all persons.
    by_gender, by_age: by group. Each also has the persons without a judged face, who have no group.
    reasons: number of persons without an age, by reason.
    estimator: name of the estimator whose errors stand beside the figures, None if none are known.
    """

    overall: GroupFairness
    by_gender: Sequence[GroupFairness]
    by_age: Sequence[GroupFairness]
    reasons: Mapping[str, int | None]
    estimator: str | None


@dataclass(frozen=True, slots=True)
class _Faces:
    """The faces of each person: (N,) each.

    num_found, num_judged: number of faces.
    quality, age, female_prob: means over the judged faces, nan without any. The last two are weighted by quality.
    """

    num_found: NDArray[np.int64]
    num_judged: NDArray[np.int64]
    quality: NDArray[np.float64]
    age: NDArray[np.float64]
    female_prob: NDArray[np.float64]


def fairness(
    people: People, faces: pa.Table, index_of: Mapping[str, int], card: Card | None, min_group: int
) -> Fairness:
    """Return the estimates by group. faces: the columns FACES. index_of: place of a video by its video_id."""
    per_person = _faces_of(people, faces, index_of)
    groups = _age_groups(card)
    age_of = group_indices(per_person.age, groups)
    by_age = [
        *((group.name, age_of == place, _errors_of_ages(card, group)) for place, group in enumerate(groups)),
        (NO_FACE, age_of < 0, None),
    ]
    known = ~np.isnan(per_person.female_prob)
    is_female = known & (per_person.female_prob >= 0.5)
    by_gender = [
        (FEMALE, is_female, _errors_of_gender(card, "F")),
        (MALE, known & ~is_female, _errors_of_gender(card, "M")),
        (NO_FACE, ~known, None),
    ]
    everyone = np.ones(len(people), np.bool_)
    whys = [why for why in people.age_why_not if why is not None]
    reasons = {why: whys.count(why) for why in sorted(set(whys))}
    with_age = len(people) - len(whys)
    hidden = hidden_counts(np.array([*reasons.values(), with_age], np.int64), min_group)
    overall = None if card is None else card.overall
    return Fairness(
        _groups(people, per_person, [("everyone", everyone, overall)], min_group)[0],
        _groups(people, per_person, by_gender, min_group),
        _groups(people, per_person, by_age, min_group),
        {why: None if hide else number for (why, number), hide in zip(reasons.items(), hidden[:-1], strict=True)},
        None if card is None else card.name,
    )


def _groups(
    people: People,
    faces: _Faces,
    groups: Sequence[tuple[str, NDArray[np.bool_], MeasuredErrors | None]],
    min_group: int,
) -> list[GroupFairness]:
    counts = np.array([members.sum() for _, members, _ in groups], np.int64)
    hidden = hidden_counts(counts, min_group)
    return [
        GroupFairness(name, None, measured=measured) if hide else _group(people, faces, name, members, measured)
        for (name, members, measured), hide in zip(groups, hidden, strict=True)
    ]


def _group(
    people: People, faces: _Faces, name: str, members: NDArray[np.bool_], measured: MeasuredErrors | None
) -> GroupFairness:
    num_people = int(members.sum())
    if not num_people:
        return GroupFairness(name, 0, measured=measured)
    no_age = int(np.isnan(people.age[members]).sum())
    no_gender = int((people.gender[members] == 2).sum())
    found, judged = int(faces.num_found[members].sum()), int(faces.num_judged[members].sum())
    quality = faces.quality[members & (faces.num_judged > 0)]
    widths = (people.high - people.low)[members]
    widths = widths[~np.isnan(widths)]
    return GroupFairness(
        name,
        num_people,
        Share.of(no_age, num_people),
        Share.of(no_gender, num_people),
        Share.of(judged, found) if found else None,
        round(float(np.median(quality)), 3) if len(quality) else None,
        _quartiles(widths) if len(widths) else None,
        measured,
    )


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75]).round(1).tolist()
    return low, middle, high


def _faces_of(people: People, faces: pa.Table, index_of: Mapping[str, int]) -> _Faces:
    rows = people.rows_of(places(faces, "video_id", index_of), integers(faces, "person_id"))
    is_judged, quality = flags(faces, "judged"), reals(faces, "quality")

    def total(which: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
        which = which & (rows >= 0)
        return np.bincount(rows[which], weights=values[which], minlength=len(people)).astype(np.float64)

    def mean(
        which: NDArray[np.bool_], values: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        sums = total(which, weights)
        return np.divide(total(which, values * weights), sums, out=np.full(len(people), np.nan), where=sums > 0)

    ones, everything = np.ones(len(rows)), np.ones(len(rows), np.bool_)
    weights = np.maximum(quality, 1e-3)
    age, female_prob = reals(faces, "age"), reals(faces, "female_prob")
    return _Faces(
        total(everything, ones).astype(np.int64),
        total(is_judged, ones).astype(np.int64),
        mean(is_judged, quality, ones),
        mean(is_judged & ~np.isnan(age), age, weights),
        mean(is_judged & ~np.isnan(female_prob), female_prob, weights),
    )


def _age_groups(card: Card | None) -> Sequence[AgeGroup]:
    """Return the groups in which the card states errors, or else the groups of a summary."""
    spans = [] if card is None else [errors.ages for errors in card.by_age if errors.ages is not None]
    if not spans or any(above[0] < below[1] for below, above in pairwise(spans)):
        return NEAREST_ADIENCE
    return [AgeGroup(f"{low:g}+" if high == np.inf else f"{low:g}–{high - 1:g}", low, high) for low, high in spans]


def _errors_of_ages(card: Card | None, group: AgeGroup) -> MeasuredErrors | None:
    rows = () if card is None else card.by_age
    return next((errors for errors in rows if errors.ages == (group.low, group.high)), None)


def _errors_of_gender(card: Card | None, gender: str) -> MeasuredErrors | None:
    rows = () if card is None else card.by_gender
    return next((errors for errors in rows if errors.group == gender), None)
