"""Reasons that a person can check, and the pairs nearest to the decision."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.cores.link.explaining import explain, most_doubtful
from pipeline.cores.link.groups import num_beside
from pipeline.cores.link.linking import link
from pipeline.cores.link.pairs import Links
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.link.verdicts import Verdicts, judge
from tests.cores.link.people import KNOWN, PARAMS, crowd, person


def judge_all(links: Links, tracklets: Sequence[Tracklet]) -> Verdicts:
    shots = np.array([tracklet.shot for tracklet in tracklets])
    return judge(links, shots, num_beside([tracklet.intervals for tracklet in tracklets]), PARAMS, KNOWN)


def reasons(*tracklets: Tracklet) -> list[tuple[str, str]]:
    """Return why and reason of every link. The tracklets are in order of first appearance."""
    links, _ = link(tracklets, PARAMS, KNOWN)
    verdicts = judge_all(links, tracklets)
    return [(str(links.why[row]), explain(links, row, verdicts, PARAMS, KNOWN)) for row in range(len(links))]


@pytest.mark.parametrize(
    ("before", "after", "why", "phrase"),
    [
        (
            person(0, 50),
            person(75, 125, height=160),
            "other size",
            "one is 1.60 times as tall as the other at the gap, at most 1.50 times",
        ),
        (person(0, 50), person(60, 125, x=600), "too far", "5.0 body heights from the predicted place after 0.4 s"),
        (person(0, 50), person(75, 125, body=50), "unlike", "bodies are .64 similar, where one person here is .97"),
        (person(0, 50, body=None), person(60, 125), "no appearance", "one of them has no embedding"),
        (person(0, 50), person(75, 125), "alike", "odds for one person over 10,000 to 1, needed 4.5 to 1"),
        (person(0, 50), person(50, 90, shot=1, body=24), "unsure", "odds for one person 1.4 to 1, needed 4.5 to 1"),
        (person(0, 50, face=0), person(60, 90, face=80), "other face", "faces are .17 similar"),
        (person(0, 50, face=0), person(50, 9000, shot=1, face=12), "alike", "faces are .98 similar"),
    ],
)
def test_a_reason_names_what_was_measured_and_what_is_usual(
    before: Tracklet, after: Tracklet, why: str, phrase: str
) -> None:
    ((word, reason),) = reasons(before, after)
    assert word == why
    assert phrase in reason


def test_a_pair_that_would_do_alone_says_that_others_fit() -> None:
    twins = [person(0, 50, x=100, body=-10), person(0, 50, x=600, body=10)]
    assert ["others fit better or as well" in reason for _, reason in reasons(*twins, person(50, 100, shot=1))] == [
        True
    ] * 2


def test_a_margin_is_negative_where_a_pair_alone_is_not_joined() -> None:
    tracklets = crowd(3, 40)
    links, _ = link(tracklets, PARAMS, KNOWN)
    verdicts = judge_all(links, tracklets)
    decided = ~np.isnan(verdicts.margins)
    assert decided.sum() > 20
    assert (verdicts.margins < 0)[decided].tolist() == (verdicts.reasons != "")[decided].tolist()


def test_the_doubtful_pairs_are_the_nearest_of_both_sides() -> None:
    joined = np.array([True, True, True, False, False, False, False])
    margins = np.array([5.0, 1.0, -2.0, -0.1, -3.0, np.nan, -0.2])
    assert most_doubtful(joined, margins, 4).tolist() == [3, 6, 1, 2]
    assert most_doubtful(joined, margins, 100).tolist() == [3, 6, 1, 2, 4, 0]
    assert most_doubtful(~joined, np.where(joined, np.nan, margins), 2).tolist() == [3, 6]
