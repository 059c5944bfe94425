from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.cores.link.heights import LEAST_LIMIT, MOST_LIMIT
from pipeline.cores.link.linking import link
from pipeline.cores.link.pairs import measure
from pipeline.cores.link.tracklets import Tracklet
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


def test_where_people_grow_quickly_a_larger_change_of_height_may_be_one_person_s() -> None:
    def growing(number: int) -> Tracklet:
        tracklet = person(0, 90, x=300 * number, body=40 * number)
        heads, tails = tracklet.head_boxes.copy(), tracklet.tail_boxes.copy()
        for boxes in (heads, tails):
            boxes[:, 3] = 100 * 1.1 ** (np.arange(len(boxes)) / 25)
        return replace(tracklet, head_boxes=heads, tail_boxes=tails)

    def limit(*others: Tracklet) -> float:
        links = measure([person(0, 50, x=-300), person(75, 125, x=-300), *others], PARAMS)
        assert len(set(links.size_limit.tolist())) == 1
        return float(links.size_limit[0])

    assert limit() == LEAST_LIMIT
    assert limit(*(person(0, 90, x=300 * number) for number in range(20))) == LEAST_LIMIT
    few, many = limit(*map(growing, range(2))), limit(*map(growing, range(20)))
    assert LEAST_LIMIT < few < many == MOST_LIMIT
