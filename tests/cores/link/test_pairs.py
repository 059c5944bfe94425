from dataclasses import replace
from typing import Any

import pytest

from pipeline.cores.link.linking import link
from pipeline.cores.link.pairs import measure
from tests.cores.link.people import KNOWN, PARAMS, crowd, person


def test_candidates_are_bounded() -> None:
    tracklets = crowd(3, 200)
    links = measure(tracklets, replace(PARAMS, candidates=4))
    assert len(links) <= 3 * 4 * len(tracklets)
    pairs = list(zip(links.a.tolist(), links.b.tolist(), strict=True))
    assert len(pairs) == len({*pairs})
    assert all(a < b for a, b in pairs)


def test_of_many_who_follow_the_soonest_are_measured_and_later_ones_that_are_better() -> None:
    first = person(0, 50, x=100)
    followers = [person(60, 70, x=190), person(70, 80, x=400), person(80, 90, x=120), person(90, 100, x=160)]
    links = measure([first, *followers], replace(PARAMS, candidates=1))
    assert links.b[links.a == 0].tolist() == [1, 3]
    links = measure([first, *followers], replace(PARAMS, candidates=2))
    assert links.b[links.a == 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("before", "after", "is_explained"),
    [
        ({"top": 200, "height": 99}, {"top": 100, "height": 160}, True),  # somebody walks into the picture from below
        ({"top": 100, "height": 160}, {"top": 200, "height": 99}, True),
        ({"top": 0, "height": 99}, {"top": 20, "height": 160}, True),
        ({"top": 200, "height": 99}, {"top": 100, "height": 60}, False),
        ({"top": 100, "height": 60}, {"top": 200, "height": 99}, False),
        ({"top": 100, "height": 99}, {"top": 100, "height": 160}, False),
    ],
)
def test_whom_the_edge_of_the_picture_cuts_off_may_be_taller_than_the_box(
    before: dict[str, Any], after: dict[str, Any], is_explained: bool
) -> None:
    def size(picture: int | None) -> float:
        pair = [person(0, 50, **before, picture=picture), person(75, 125, **after, picture=picture)]
        return float(link(pair, PARAMS, KNOWN)[0].size[0])

    assert size(None) > 1.2
    assert size(300) == (1 if is_explained else size(None))
