from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cores.presence import Cue, covered_s, cues, joined_spans


def named(spans: dict[int, list[tuple[float, float]]], max_gap_s: float = 1, min_cue_s: float = 1) -> list[Cue]:
    return cues(spans, max_gap_s, min_cue_s)


def test_the_time_in_the_picture_counts_no_moment_twice() -> None:
    assert covered_s([(0, 2), (1, 3), (5, 6)]) == 4
    assert covered_s([]) == 0


def test_spans_are_joined_over_short_gaps_alone() -> None:
    assert joined_spans([(3, 4), (0, 1), (1.5, 2)], 0.5) == [(0, 2), (3, 4)]


def test_a_cue_names_everybody_who_is_there() -> None:
    assert named({1: [(0, 10)], 2: [(4, 6)]}) == [Cue(0, 4, (1,)), Cue(4, 6, (1, 2)), Cue(6, 10, (1,))]


def test_somebody_who_is_away_for_a_moment_stays_in_the_cue() -> None:
    assert named({1: [(0, 2), (2.9, 5)]}) == [Cue(0, 5, (1,))]
    assert named({1: [(0, 2), (3.1, 5)]}) == [Cue(0, 2, (1,)), Cue(3.1, 5, (1,))]


def test_changes_within_a_second_make_one_cue() -> None:
    """B comes 0.3 s before A leaves: no cue of both lasts 0.3 s."""
    assert named({1: [(0, 5)], 2: [(4.7, 9)]}) == [Cue(0, 4.7, (1,)), Cue(4.7, 9, (1, 2))]
    assert named({1: [(0, 5.3)], 2: [(0, 5)]}) == [Cue(0, 5.3, (1, 2))]


def test_somebody_who_is_there_for_a_moment_is_named() -> None:
    assert named({7: [(3, 3.2)]}) == [Cue(3, 3.2, (7,))]


SPANS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 40)).map(lambda span: (span[0] / 10, (span[0] + span[1]) / 10)),
    max_size=5,
)


@given(st.dictionaries(st.integers(1, 5), SPANS, max_size=5))
def test_whoever_is_there_is_named_and_cues_neither_overlap_nor_flicker(
    spans: dict[int, list[tuple[float, float]]],
) -> None:
    made = named(spans)
    for before, after in pairwise(made):
        assert before.end_s <= after.start_s
        assert not (before.end_s == after.start_s and before.persons == after.persons)
        if before.end_s == after.start_s:
            assert before.end_s - before.start_s >= 1
    for person, there in spans.items():
        for start_s, end_s in there:
            covered = [(cue.start_s, cue.end_s) for cue in made if person in cue.persons]
            assert any(start <= start_s and end >= end_s for start, end in joined_spans(covered))
