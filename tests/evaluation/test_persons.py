from dataclasses import replace

import numpy as np
import pytest

from pipeline.corpora.labelled_persons import LabelledBox, LabelledPerson
from pipeline.evaluation.persons import NONE, RIGHT, WRONG, Estimate, Judged, figures, judge, match, summary

NAN = float("nan")


def label(
    left: float = 0,
    time_s: float = 1,
    age: tuple[float, float] = (20, 35),
    gender: str | None = "F",
    face_px: float = 50,
) -> LabelledPerson:
    return LabelledPerson("v", (box(left, time_s),), *age, gender, face_px)


def box(left: float, time_s: float) -> LabelledBox:
    return LabelledBox(time_s, (left, 0, left + 10, 20))


def matches(labels: list[LabelledPerson], *rows: tuple[float, float, int]) -> list[int | None]:
    """Match with rows of (time_s, left, person_id)."""
    times_s, lefts, ids = (np.array(values) for values in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3
    boxes = np.stack([lefts, 0 * lefts, lefts + 10, 0 * lefts + 20], axis=1).astype(np.float32)
    return match(
        [box for label in labels for box in label.boxes], times_s.astype(np.float64), boxes, ids.astype(np.int64)
    )


def judged(age: float | None, gender: str, person: LabelledPerson | None = None) -> Judged:
    return Judged(person or label(), Estimate(1, True, age, gender))


def test_a_person_is_found_by_a_box_that_overlaps_at_that_moment() -> None:
    assert matches([label()], (1.05, 1, 7)) == [7]
    assert matches([label()], (1.5, 0, 7)) == [None]
    assert matches([label()], (1, 6, 7)) == [None]
    assert matches([label()]) == [None]


def test_two_people_of_one_moment_are_two_persons_of_the_result() -> None:
    both = [label(0), label(2)]
    assert matches(both, (1, 1, 7)).count(7) == 1
    assert matches(both, (1, 1, 7), (1, 3, 8)) == [7, 8]


def test_people_under_one_id_count_as_joined() -> None:
    labels = [label(0, time_s=1), label(50, time_s=2)]
    people = judge(labels, matches(labels, (1, 0, 7), (2, 50, 7)), {7: Estimate(7, True, 30, "F")})
    assert figures(people)["joined"] == 2


def test_a_person_of_several_moments_counts_once_and_is_split_if_it_has_several_ids() -> None:
    labels = [
        replace(label(age=(30, 40)), boxes=(box(0, 1), box(0, 2), box(0, 3))),
        replace(label(), boxes=(box(50, 1), box(50, 2))),
        replace(label(), boxes=(box(90, 1), box(90, 2))),
    ]
    found = matches(labels, (1, 0, 7), (2, 0, 8), (3, 0, 8), (1, 50, 9), (2, 50, 9), (1, 90, 4))
    people = judge(labels, found, {name: Estimate(name, True, 4.0 * name, "F") for name in (4, 7, 8, 9)})
    assert [person.is_split for person in people] == [True, False, None]
    assert [person.person_ids for person in people] == [(7, 8, 8), (9, 9), (4,)]
    assert people[0].age == RIGHT  # by 8, at most of its moments
    values = figures(people)
    assert (values["found"]["count"], values["split"]["count"], values["split"]["of"], values["joined"]) == (3, 1, 2, 0)


@pytest.mark.parametrize(("age", "verdict"), [(19.9, WRONG), (20, RIGHT), (35.9, RIGHT), (36, WRONG), (None, NONE)])
def test_an_age_is_right_in_the_labelled_range(age: float | None, verdict: str) -> None:
    assert judged(age, "F").age == verdict


def test_labels_that_cannot_be_told_count_for_neither_gender_nor_age() -> None:
    values = figures([judged(30, "F", label(gender=None, age=(NAN, NAN)))])
    assert (values["found"]["of"], values["judged"]["of"]) == (1, 1)
    assert (values["gender_right"]["of"], values["age_right"]["of"], values["age_years_off"]) == (0, 0, None)


def test_right_wrong_and_no_estimates_add_up_to_the_people_found() -> None:
    people = [judged(30, "F"), judged(41, "M"), judged(None, "N"), Judged(label(), None)]
    values = figures(people)
    assert (values["found"]["count"], values["found"]["of"]) == (3, 4)
    assert [values[f"gender_{name}"]["count"] for name in (RIGHT, WRONG, NONE)] == [1, 1, 1]
    assert [values[f"age_{name}"]["count"] for name in (RIGHT, WRONG, NONE)] == [1, 1, 1]
    assert values["age_years_off"] == 2.5
    assert values["age_right"]["low"] < values["age_right"]["share"] < values["age_right"]["high"]


def test_groups_follow_the_labels() -> None:
    people = [
        judged(30, "F"),
        judged(5, "M", label(age=(4, 9), gender="M", face_px=0)),
        judged(5, "M", label(age=(NAN, NAN), gender=None, face_px=96)),
    ]
    report = summary(people)
    assert list(report["by"]["face"]) == ["no face", "32–95 px", "96 px and more"]
    assert list(report["by"]["gender"]) == ["F", "M", "cannot tell"]
    assert list(report["by"]["age"]) == ["0–12", "20–39", "cannot tell"]
    assert report["pooled"]["persons"] == 3
