"""Stored links that are selected under other parameters equal links that are scored under those parameters."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.cores.link.joining import join
from pipeline.cores.link.linking import link
from pipeline.cores.link.pairs import GAP, SHOT, Links, measure
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.times import microseconds
from pipeline.cores.link.tracklets import Tracklet
from pipeline.cores.relink import LIMITS, Presence, num_crowded_out, select
from tests.cores.link.people import KNOWN, PARAMS, crowd, person

MEASURED = [field.name for field in fields(Links) if field.name not in ("score", "joined", "why")]


def when(tracklets: list[Tracklet]) -> Presence:
    first, last = (
        microseconds(np.array(times, np.int64) / 1e9)
        for times in ([t.head_ns[0] for t in tracklets], [t.tail_ns[-1] for t in tracklets])
    )
    return Presence(np.array([t.shot for t in tracklets], np.int64), first, last, [t.intervals for t in tracklets])


def differing(one: Links, other: Links) -> list[str]:
    return [name for name in MEASURED if not _same(getattr(one, name), getattr(other, name))]


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


narrowings = st.fixed_dictionaries(
    {
        "max_gap_s": st.sampled_from([0.2, 1.0, 3.0, 5.0]),
        "shot_max_s": st.sampled_from([0.0, 4.0, 30.0, 120.0]),
        "candidates": st.integers(1, 4),
        "wrong_joins": st.sampled_from([0.001, 0.05, 0.5]),
    }
)


@given(st.integers(0, 400), st.integers(1, 4), narrowings)
def test_what_narrower_limits_would_have_measured_is_found_to_the_last_row_or_missed(
    seed: int, candidates: int, change: dict[str, float]
) -> None:
    before = replace(PARAMS, candidates=candidates)
    after: IdentityParams = replace(PARAMS, **change)
    assume(all(getattr(after, name) <= getattr(before, name) for name in LIMITS))
    tracklets = crowd(seed, 25)
    written, _ = link(tracklets, before, KNOWN)
    times = when(tracklets)
    found, expected = select(written, times, after), measure(tracklets, after)
    if not num_crowded_out(written, times, before, after):
        assert differing(found, expected) == []
        links, persons = join(found, times.shots, times.intervals, after, KNOWN)
        again, labels = link(tracklets, after, KNOWN)
        assert persons.tolist() == labels.tolist()
        assert links.why.tolist() == again.why.tolist()
        assert np.array_equal(links.score, again.score, equal_nan=True)
    else:
        there = {*zip(written.a.tolist(), written.b.tolist(), strict=True)}
        assert {*zip(found.a.tolist(), found.b.tolist(), strict=True)} <= there


@given(st.integers(0, 400), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 12.0]))
def test_fewer_candidates_and_no_absences_are_found_among_the_absences_that_were_measured(
    seed: int, candidates: int, fewer: int, max_absence_s: float
) -> None:
    before = replace(PARAMS, candidates=candidates, max_gap_s=1.0, max_absence_s=12.0)
    after = replace(before, candidates=min(fewer, candidates), max_absence_s=max_absence_s)
    tracklets = [replace(tracklet, shot=0) for tracklet in crowd(seed, 25)]
    written, _ = link(tracklets, before, KNOWN)
    assert differing(select(written, when(tracklets), after), measure(tracklets, after)) == []


def test_pairs_that_a_shorter_time_between_shots_lacks_are_told_of_and_only_then() -> None:
    told = missed = 0
    for seed in range(30):
        tracklets = crowd(seed, 25)
        before = replace(PARAMS, candidates=4)
        after = replace(before, shot_max_s=4.0)
        written, _ = link(tracklets, before, KNOWN)
        times = when(tracklets)
        told += num_crowded_out(written, times, before, after) > 0
        missed += bool(differing(select(written, times, after), measure(tracklets, after)))
    assert 0 < missed <= told < 30


@given(st.integers(0, 400), st.integers(1, 3), st.sampled_from([0.1, 0.5, 1.0, 2.0, 4.9]))
def test_a_shorter_gap_never_lacks_a_pair(seed: int, candidates: int, max_gap_s: float) -> None:
    tracklets = crowd(seed, 40)
    before = replace(PARAMS, candidates=candidates)
    after = replace(before, max_gap_s=max_gap_s)
    written = measure(tracklets, before)
    assert num_crowded_out(written, when(tracklets), before, after) == 0
    assert differing(select(written, when(tracklets), after), measure(tracklets, after)) == []


def test_the_same_limits_find_everything_again() -> None:
    tracklets = crowd(5, 40)
    params = replace(PARAMS, candidates=3)
    written, _ = link(tracklets, params)
    assert num_crowded_out(written, when(tracklets), params, params) == 0
    assert differing(select(written, when(tracklets), params), measure(tracklets, params)) == []


def test_a_gap_that_is_now_too_late_is_still_compared_by_face() -> None:
    tracklets = [person(0, 50, face=0), person(100, 150, face=20)]
    written, _ = link(tracklets, PARAMS)
    assert written.kind.tolist() == [GAP]
    assert not np.isnan(written.motion[0])
    selected = select(written, when(tracklets), replace(PARAMS, max_gap_s=1))
    assert selected.kind.tolist() == [SHOT]
    assert np.isnan([selected.motion[0], selected.size[0]]).all()
    blind = [person(0, 50), person(100, 150)]
    assert len(select(link(blind, PARAMS)[0], when(blind), replace(PARAMS, max_gap_s=1))) == 0


def test_of_equally_near_candidates_the_first_ones_are_taken() -> None:
    tracklets = [person(0, 50), *(person(100 * n, 100 * n + 50, shot=n, x=900) for n in range(1, 6))]
    links = measure(tracklets, replace(PARAMS, candidates=1))
    assert sorted(zip(links.a.tolist(), links.b.tolist(), strict=True)) == [(0, n) for n in range(1, 6)]


def test_nobody() -> None:
    written, _ = link([], PARAMS)
    assert len(select(written, when([]), PARAMS)) == 0
    assert num_crowded_out(written, when([]), PARAMS, replace(PARAMS, shot_max_s=1)) == 0
