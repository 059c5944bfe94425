import numpy as np
import pyarrow as pa
import pytest

from pipeline import rows
from pipeline.corpora.mot import MotRows, parse_mot
from tests.bench.identity_over_cuts import (
    FILMS,
    HELD_OUT,
    Fix,
    Matches,
    by_reason,
    describe,
    match,
    mistakes,
    put_right,
)

NO_LINKS = rows.DATASETS["links"].empty_table()


def boxes(*lines: tuple[int, int, int], counts: bool = True) -> MotRows:
    """Return boxes of 10 x 10 px from (frame, id, left)."""
    return parse_mot("".join(f"{frame},{name},{left},0,10,10,{int(counts)}\n" for frame, name, left in lines))


def matches(persons: str, people: str, segments: str, tracklets: str | None = None) -> Matches:
    """Return matches with one letter per box. By default, the boxes of a person in a segment are one tracklet."""
    ids = [np.array([ord(letter) for letter in word], np.int64) for word in (persons, people, segments)]
    own = np.array([ord(letter) for letter in tracklets]) if tracklets else ids[0] * 1000 + ids[2]
    count = len(persons)
    return Matches(ids[0], own, ids[1], ids[2], np.arange(count), np.zeros((count, 4), np.float32))


def links(*pairs: tuple[int, int, float, bool]) -> pa.Table:
    """Return a table of links from (tracklet, tracklet, body similarity, joined)."""
    told = [
        {"tracklet_a": a, "tracklet_b": b, "kind": "shot", "gap_s": 1.0, "body_similarity": body, "joined": joined}
        for a, b, body, joined in pairs
    ]
    return pa.Table.from_pylist([row | {"why": "unlike"} for row in told], schema=rows.DATASETS["links"])


def test_boxes_are_matched_in_their_own_frame_by_overlap() -> None:
    found = boxes((1, 7, 0), (1, 8, 100), (2, 7, 3), (3, 7, 50))
    truth = boxes((1, 1, 1), (1, 2, 200), (2, 1, 0), (2, 2, 4), (4, 1, 50))
    first, second = match(found, truth)
    assert [(found.ids[a], found.frames[a], truth.ids[b]) for a, b in zip(first, second, strict=True)] == [
        (7, 1, 1),
        (7, 2, 2),  # one px away, the other is three px away
    ]


def test_what_falls_on_a_row_that_does_not_count_is_left_out() -> None:
    first, _ = match(boxes((1, 7, 0)), boxes((1, 1, 0), counts=False))
    assert len(first) == 0


def test_a_fix_renames_the_tracklet_that_it_points_at_while_it_holds() -> None:
    """Frame 26 begins at 1 s, because the film has 25 frames per second."""
    seen = boxes(*((frame, 1, 0) for frame in range(1, 51)), *((frame, 2, 40) for frame in range(1, 51)))
    tracklets = np.where(seen.ids == 1, 11, 12)
    fixes = [Fix(0.4, (6, 5), "ann", 1), Fix(0, (45, 5), "ann", 1), Fix(1.96, (44, 5), "", 0, 1)]
    right = put_right(seen, tracklets, fixes)
    first, second = right[tracklets == 11], right[tracklets == 12]
    assert first.ids.tolist() == [1] * 25 + [3] * 25
    assert second.ids[25:].tolist() == [3] * 25
    assert second.counts.tolist() == [False] * 25 + [True] * 25
    assert first.counts.all()


def test_a_fix_that_points_at_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"nobody is at \(45, 5\) at 0 s, where ann should be"):
        put_right(boxes((1, 1, 0)), np.array([1]), [Fix(0, (45, 5), "ann")])


def test_only_people_of_two_segments_recur() -> None:
    seen = matches("aaabbcc", "xxxyyzz", "1121122")
    assert seen.recurring.tolist() == [True] * 3 + [False] * 4


def test_figures_by_hand() -> None:
    # Person x is seen in segments 1 and 2, and is found as a and b. Person y is seen in segment 1 alone, and is taken
    # for a.
    seen = matches("aaabba", "xxxxxy", "111221")
    figures = seen.figures()
    assert figures["precision"] == pytest.approx((3 * 3 / 4 + 2 + 1 / 4) / 6, abs=1e-4)
    assert figures["recall"] == pytest.approx((3 * 3 / 5 + 2 * 2 / 5 + 1) / 6, abs=1e-4)
    assert figures["recurring_precision"] == pytest.approx((3 * 3 / 4 + 2) / 5, abs=1e-4)
    assert figures["recurring_recall"] == pytest.approx((3 * 3 / 5 + 2 * 2 / 5) / 5, abs=1e-4)
    assert (figures["num_persons"], figures["num_people"]) == (2, 2)
    assert (figures["num_boxes"], figures["num_recurring"]) == (6, 5)


def test_bare_tracklets_are_what_nobody_joined() -> None:
    figures = matches("aaaa", "xxxx", "1122").figures()
    assert (figures["recall"], figures["bare_recall"], figures["bare_precision"]) == (1, 0.5, 1)


def test_pooled_films_share_no_ids() -> None:
    one = matches("aabb", "xxyy", "1212")
    assert Matches.pooled([one, one]).figures()["precision"] == one.figures()["precision"]
    assert Matches.pooled([one, one]).figures()["num_people"] == 4


@pytest.mark.parametrize(
    ("persons", "people", "segments"),
    [("aaabba", "xxxxxy", "111221"), ("abcabc", "xxxyyy", "112233"), ("aaaaaa", "xyzxyz", "111222")],
)
def test_the_costs_of_mistakes_are_what_is_missing(persons: str, people: str, segments: str) -> None:
    seen = matches(persons, people, segments)
    told, found = seen.figures(), mistakes(seen, NO_LINKS)
    for kind, name in (("wrong", "precision"), ("missed", "recall")):
        assert sum(each.cost for each in found if each.kind == kind) == pytest.approx(1 - told[name], abs=1e-4)
    assert [each.cost for each in found] == sorted((each.cost for each in found), reverse=True)


def test_a_mistake_tells_the_likest_link_between_its_parts() -> None:
    seen = matches("aaabbbccc", "xxxxxxxxx", "111222333", tracklets="123444555")  # '1' is 49
    found = mistakes(seen, links((49, 52, 0.7, False), (50, 52, 0.8, False), (52, 53, 0.2, False)))
    told = {each.tracklets: each for each in found}
    assert (50, 52) in told
    assert "body 0.800 face   -   score   -" in describe(told[50, 52])
    assert sorted(describe(each).endswith("no link") for each in found) == [False, False, True]


def test_a_tracklet_that_changes_person_is_told() -> None:
    (found,) = mistakes(matches("aaaa", "xxyy", "1111", tracklets="1111"), NO_LINKS)
    assert found.kind == "wrong"
    assert describe(found).endswith("one tracklet")
    assert by_reason([found, found]) == "wrong, one tracklet 1.000"


def test_films_held_out_are_of_other_clips_and_other_times() -> None:
    """The benchmark's sequence may be in both sets, but at other times."""
    shown = {name: set(cuts) for name, cuts in FILMS.items()}
    own = set().union(*(cuts for name, cuts in shown.items() if not name.startswith(HELD_OUT)))
    unseen = set().union(*(cuts for name, cuts in shown.items() if name.startswith(HELD_OUT)))
    assert {cut[0] for cut in own} & {cut[0] for cut in unseen} <= {"PETS09-S2L1"}
    last_s = max(end_s for clip, _, end_s in own if clip == "PETS09-S2L1")
    assert min(start_s for clip, start_s, _ in unseen if clip == "PETS09-S2L1") >= last_s
    for cuts in FILMS.values():
        clips = [clip for clip, _, _ in cuts]
        assert all(clips.count(clip) >= 2 for clip in clips)
