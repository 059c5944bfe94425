from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.cores.link.tracklets import Tracklet
from tests.cores.link.people import KNOWN, PARAMS, person, persons


def test_every_pair_that_was_scored_is_there_with_the_reason() -> None:
    tracklets = [
        person(0, 50),
        person(75, 125, x=900),
        person(125, 150, shot=1, body=10),
        person(125, 150, shot=1, x=600, body=70),
    ]
    links, labels = link(tracklets, PARAMS, KNOWN)
    reasons = {(a, b): why for a, b, why in zip(links.a.tolist(), links.b.tolist(), links.why.tolist(), strict=True)}
    assert reasons == {
        (0, 1): "through others",  # too far apart for a gap, but both are joined with 2
        (0, 2): "alike",
        (0, 3): "seen together",  # 2 shares a frame with 3, and 2 is the same person as 0
        (1, 2): "alike",
        (1, 3): "seen together",
    }
    for a, b, joined in zip(links.a, links.b, links.joined, strict=True):
        assert joined == (labels[a] == labels[b])


def test_nobody_and_one_person() -> None:
    links, labels = link([], PARAMS)
    assert (len(links), labels.tolist()) == (0, [])
    assert persons(person(0, 5)) == [0]


@st.composite
def scenes(draw: st.DrawFn) -> list[Tracklet]:
    angles = st.one_of(st.none(), st.integers(0, 12).map(lambda step: 15.0 * step))
    return [
        person(
            start,
            start + draw(st.integers(1, 40)),
            x=draw(st.integers(0, 3)) * 60.0,
            speed=draw(st.sampled_from([0.0, 80.0])),
            shot=start // 100,
            body=draw(angles),
            face=draw(angles),
        )
        for start in draw(st.lists(st.integers(0, 299), max_size=14))
    ]


def partition(labels: Sequence[int], names: Sequence[int]) -> set[frozenset[int]]:
    return {frozenset(name for name, label in zip(names, labels, strict=True) if label == group) for group in labels}


@given(scenes(), st.randoms(use_true_random=False))
def test_order_and_names_do_not_change_who_is_who(tracklets: list[Tracklet], random: Random) -> None:
    order = list(range(len(tracklets)))
    random.shuffle(order)
    shuffled = [tracklets[index] for index in order]
    here = partition(link(tracklets, PARAMS)[1].tolist(), range(len(tracklets)))
    there = partition(link(shuffled, PARAMS)[1].tolist(), order)
    assert calibrate(shuffled, KNOWN) == calibrate(tracklets, KNOWN)
    described = [{_described(tracklets, group) for group in groups} for groups in (here, there)]
    assert described[0] == described[1]


def _described(tracklets: list[Tracklet], group: frozenset[int]) -> tuple:
    """Return the content of a group. Tracklets that are equal in everything are interchangeable."""
    return tuple(sorted(repr(tracklets[index]) for index in group))


@given(scenes())
def test_no_person_is_twice_in_one_frame(tracklets: list[Tracklet]) -> None:
    _, labels = link(tracklets, PARAMS)
    frames = [
        (label, frame)
        for label, tracklet in zip(labels.tolist(), tracklets, strict=True)
        for start, end in tracklet.intervals.tolist()
        for frame in range(start, end)
    ]
    assert len(frames) == len({*frames})


@given(scenes())
def test_linking_twice_changes_nothing(tracklets: list[Tracklet]) -> None:
    first, second = link(tracklets, PARAMS), link(tracklets, PARAMS)
    assert first[1].tolist() == second[1].tolist()
    assert first[0].score.tobytes() == second[0].score.tobytes()
    assert first[0].why.tolist() == second[0].why.tolist()
