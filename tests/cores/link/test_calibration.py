from dataclasses import replace

import numpy as np
import pytest

from pipeline.cores.link.calibration import calibrate
from tests.cores.link.people import KNOWN, person


def test_who_is_seen_together_says_how_far_apart_two_people_are() -> None:
    alike = [
        person(0, 50, x=x, body=step * 3, shot=shot) for shot in range(4) for step, x in enumerate((100, 300, 500))
    ]
    likeness = calibrate(alike, KNOWN)["body"]
    assert likeness.other.count == len(alike)
    assert likeness.other.mean < KNOWN["body"].other.mean - 0.5
    assert KNOWN["body"].ratio(np.array([0.95]))[0] > likeness.ratio(np.array([0.95]))[0]
    assert calibrate(alike, KNOWN)["face"].other.mean == pytest.approx(KNOWN["face"].other.mean, abs=0.001)


def test_the_ends_of_one_tracklet_say_how_alike_a_person_stays() -> None:
    changing = [replace(person(100 * i, 100 * i + 50), body_steadiness=0.8) for i in range(30)]
    likeness = calibrate(changing, KNOWN)["body"]
    assert likeness.same.count == 30
    assert likeness.same.mean == pytest.approx(np.log(0.2), abs=0.6)
    assert likeness.ratio(np.array([0.85]))[0] > KNOWN["body"].ratio(np.array([0.85]))[0]


def test_a_hole_in_a_tracklet_is_not_seen_together() -> None:
    whole, within = person(0, 100), person(40, 60, x=600)
    broken = replace(whole, intervals=np.array([[0, 30], [70, 100]]))
    assert calibrate([whole, within], KNOWN)["body"].other.count == 2
    assert calibrate([broken, within], KNOWN)["body"].other.count == 0


def test_the_more_strangers_the_surer_it_must_be() -> None:
    strangers = [person(50 * i, 50 * i + 40, shot=i, body=(80 * i) % 360) for i in range(2, 60)]
    pair = [person(0, 40, body=0), person(50, 90, shot=1, body=19)]
    few, many = (calibrate(people, KNOWN)["body"] for people in (pair, [*pair, *strangers]))
    alone = np.array([0])
    assert few.odds_against(alone) < many.odds_against(alone)
