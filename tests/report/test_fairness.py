"""Tests of the estimates by group, and of the measured errors beside them."""

from typing import Any

import pytest

from pipeline.cores.wilson import Share
from pipeline.report.cards import read_card
from pipeline.report.fairness import Fairness, fairness
from pipeline.report.people import people_of
from tests.archives import CARD_SHA256
from tests.report.tables import Person, given, person


def face(
    person_id: int, female_prob: float | None, *, judged: bool = True, quality: float = 0.5, age: float = 30.0
) -> dict[str, Any]:
    values = {"age": age if judged else None, "female_prob": female_prob if judged else None}
    return {"video_id": "a", "person_id": person_id, "judged": judged, "quality": quality} | values


def by_group(people: list[Person], faces: list[dict[str, Any]], min_group: int = 1) -> Fairness:
    tables = given({"a": people}, faces=faces)
    columns = people_of(tables.tables["persons"], tables.sequences, {"a": 0})
    card = read_card("starter-attributes", CARD_SHA256)
    return fairness(columns, tables.tables["faces"], {"a": 0}, card, min_group)


def test_a_person_without_an_estimate_counts_in_the_group_that_the_faces_point_to() -> None:
    people = [person(30, "F"), person(), person(31, "M"), person(faces=0)]
    faces = [face(1, 0.9), face(2, 0.6), face(2, 0.7), face(3, 0.2), face(4, None, judged=False)]
    women, men, unknown = by_group(people, faces).by_gender
    assert (women.name, women.num_people, women.no_gender and women.no_gender.value) == ("female", 2, 0.5)
    assert (men.num_people, men.no_age and men.no_age.value) == (1, 0.0)
    assert (unknown.num_people, unknown.no_age and unknown.no_age.value, unknown.quality) == (1, 1.0, None)


def test_better_faces_weigh_more() -> None:
    faces = [face(1, 0.9, quality=0.9), face(1, 0.2, quality=0.1)]
    women, men, _ = by_group([person(30, "F")], faces).by_gender
    assert (women.num_people, men.num_people) == (1, 0)
    assert women.quality == 0.5


def test_the_measured_errors_stand_beside_the_group_that_they_are_of() -> None:
    made = by_group([person(25, "F", width=12)], [face(1, 0.9, age=25)])
    twenties = next(group for group in made.by_age if group.name == "20–29")
    assert (twenties.num_people, twenties.width) == (1, (12.0, 12.0, 12.0))
    assert twenties.measured is not None
    assert (twenties.measured.mae.value, twenties.measured.mae.low, twenties.measured.coverage.value) == (
        2.97,
        2.75,
        83.2,
    )
    assert made.by_age[-2].name == "70+"
    assert [group.measured and group.measured.gender_accuracy.value for group in made.by_gender] == [94.6, 95.9, None]
    assert made.overall.measured is not None
    assert made.overall.measured.num_faces == 2009


def test_small_groups_show_nothing() -> None:
    people = [person(30, "F")] * 6 + [person(31, "M")] * 2 + [person(faces=0)] * 7
    faces = [face(number, 0.9) for number in range(1, 7)] + [face(7, 0.1), face(8, 0.1)]
    women, men, unknown = by_group(people, faces, min_group=5).by_gender
    assert (men.num_people, men.no_age, men.quality, men.width) == (None, None, None, None)
    assert women.num_people is None  # 15 less 7 and 6 would be the two men
    assert unknown.num_people == 7


@pytest.mark.parametrize(("name", "sha256"), [("starter-attributes", "0" * 64), ("../README", "x"), ("nobody", "x")])
def test_a_card_of_another_file_counts_for_nothing(name: str, sha256: str) -> None:
    assert read_card(name, sha256) is None


def test_the_interval_of_a_share_stays_between_0_and_1() -> None:
    assert (Share.of(0, 4).low, Share.of(0, 4).high) == (0.0, pytest.approx(0.4899, abs=1e-3))
    assert 0.5 < Share.of(4, 4).low < Share.of(4, 4).high <= 1
