from dataclasses import replace

from pipeline.cores.link.pairs import measure
from tests.cores.link.people import PARAMS, crowd, person


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
