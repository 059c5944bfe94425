import numpy as np
import pytest

from pipeline.corpora.mot import MotRows, parse_mot
from pipeline.evaluation.tracking import Pair, b_cubed, matched, score


def rows(*lines: tuple[int, int, int], counts: bool = True) -> MotRows:
    """(frame, id, left): boxes of 10 x 10 px."""
    return parse_mot("".join(f"{frame},{name},{left},0,10,10,{int(counts)}\n" for frame, name, left in lines))


def both(first: MotRows, second: MotRows) -> MotRows:
    names = ("frames", "ids", "boxes", "counts")
    return MotRows(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))


def scores(result: MotRows, truth: MotRows) -> dict[str, float | int | None]:
    return score({"v": Pair.of_all_frames(result, truth)})["v"]


WALK = rows(*((frame, 1, 0) for frame in range(1, 9)), *((frame, 2, 50) for frame in range(1, 9)))


@pytest.mark.parametrize(
    ("result", "truth", "precision", "recall"),
    [
        ("aabb", "xxyy", 1, 1),
        ("aaaa", "xxxy", (3 * 3 / 4 + 1 / 4) / 4, 1),  # two people under one id
        ("abbb", "xxxx", 1, (1 / 4 + 3 * 3 / 4) / 4),  # one person under two
        ("aab", "xyy", (1 / 2 + 1 / 2 + 1) / 3, (1 + 1 / 2 + 1 / 2) / 3),
        # Bagga and Baldwin's example: 5 + 2 + 5 items; the first response joins the second and third chain, the second
        # one the first and third.
        ("aaaaabbbbbbb", "xxxxxyyzzzzz", (5 + 2 * 2 / 7 + 5 * 5 / 7) / 12, 1),
        ("aaaaabbaaaaa", "xxxxxyyzzzzz", 7 / 12, 1),
    ],
)
def test_b_cubed_by_hand(result: str, truth: str, precision: float, recall: float) -> None:
    first, second = (np.array([ord(letter) for letter in word], np.int64) for word in (result, truth))
    assert b_cubed(first, second) == pytest.approx((precision, recall))


def test_b_cubed_of_nothing_is_none() -> None:
    none = np.zeros(0, np.int64)
    assert b_cubed(none, none) is None


def test_boxes_are_matched_once_from_an_overlap_of_a_half() -> None:
    first, second = matched(np.array([[0.9, 0.8, 0], [0.7, 0, 0.49]]))
    assert (first.tolist(), second.tolist()) == ([0, 1], [1, 0])  # .8 + .7, not .9 alone
    assert len(matched(np.array([[0.49]]))[0]) == 0
    assert len(matched(np.array([[0.5]]))[0]) == 1
    assert len(matched(np.zeros((0, 3)))[0]) == 0


def test_the_truth_itself_scores_1_whatever_its_ids_are_called() -> None:
    other_names = MotRows(WALK.frames, WALK.ids * 1000, WALK.boxes, WALK.counts)
    figures = scores(other_names, WALK)
    shares = ("hota", "deta", "assa", "idf1", "mota", "precision", "recall", "b_cubed_precision", "b_cubed_recall")
    assert [figures[name] for name in shares] == [1] * 9
    assert (figures["id_switches"], figures["num_ids_found"], figures["num_ids_there"], figures["num_frames"]) == (
        0,
        2,
        2,
        8,
    )


def test_one_switch_by_hand() -> None:
    """The first of two people changes their id after two of eight frames: TP 16, one switch."""
    ids = np.where((WALK.ids == 1) & (WALK.frames > 2), 3, WALK.ids)
    figures = scores(MotRows(WALK.frames, ids, WALK.boxes, WALK.counts), WALK)
    assert (figures["deta"], figures["id_switches"], figures["num_ids_found"]) == (1, 1, 3)
    assert figures["mota"] == pytest.approx(1 - 1 / 16)
    assert figures["idf1"] == pytest.approx(2 * 14 / 32)  # ids 3 and 2 are the best of each person
    assert figures["assa"] == pytest.approx((2 * 2 / 8 + 6 * 6 / 8 + 8) / 16, abs=1e-4)
    assert figures["hota"] == pytest.approx(figures["assa"] ** 0.5, abs=1e-4)  # type: ignore[operator]
    assert figures["b_cubed_precision"] == 1
    assert figures["b_cubed_recall"] == pytest.approx((2 * 2 / 8 + 6 * 6 / 8 + 8) / 16)


def test_missed_and_invented_boxes_by_hand() -> None:
    result = both(WALK[WALK.frames > 4], rows((1, 9, 200), (2, 9, 200)))
    figures = scores(result, WALK)
    assert figures["recall"] == 0.5
    assert figures["precision"] == 0.8
    assert figures["mota"] == pytest.approx((16 - 8 - 2) / 16)
    assert figures["deta"] == pytest.approx(8 / 18, abs=1e-4)


def test_what_falls_on_a_row_that_does_not_count_is_neither_right_nor_wrong() -> None:
    truth = both(WALK, rows(*((frame, 8, 200) for frame in range(1, 9)), counts=False))
    on_it = rows(*((frame, 5, 202) for frame in range(1, 9)))
    assert scores(both(WALK, on_it), truth) == scores(WALK, WALK)
    beside = rows(*((frame, 5, 207) for frame in range(1, 9)))  # an overlap of .18
    assert scores(both(WALK, beside), truth)["precision"] == pytest.approx(16 / 24, abs=1e-4)
    one_too_many = scores(both(both(WALK, on_it), rows(*((frame, 6, 201) for frame in range(1, 9)))), truth)
    assert one_too_many["precision"] == pytest.approx(16 / 24, abs=1e-4)  # one box falls on it, the other is wrong


def test_only_the_frames_of_a_pair_are_judged() -> None:
    odd = WALK[WALK.frames % 2 == 1]
    figures = score({"v": Pair(odd, WALK, np.array([1, 3, 5, 7]))})["v"]
    assert (figures["recall"], figures["num_frames"]) == (1, 4)
    assert scores(odd, WALK)["recall"] == 0.5
    empty_too = score({"v": Pair(odd, WALK, np.array([1, 3, 4, 7]))})["v"]
    assert empty_too["recall"] == 0.75


def test_videos_are_pooled_by_their_boxes_and_share_no_ids() -> None:
    """Video b calls its two people by one id after the other: .5 of its identity. Pooled over 16 and 4 boxes."""
    second = rows((1, 1, 0), (2, 1, 0), (3, 2, 50), (4, 2, 50))
    first = rows((1, 1, 0), (2, 1, 0), (3, 1, 50), (4, 1, 50))
    figures = score({"a": Pair.of_all_frames(WALK, WALK), "b": Pair.of_all_frames(first, second)})
    assert list(figures) == ["a", "b", "pooled"]
    assert figures["b"]["b_cubed_precision"] == 0.5
    assert figures["pooled"]["b_cubed_precision"] == pytest.approx((16 + 4 / 2) / 20)
    assert figures["pooled"]["b_cubed_recall"] == 1
    assert figures["pooled"]["idf1"] == pytest.approx((16 + 2) / 20)
    assert [figures["pooled"][name] for name in ("num_ids_found", "num_ids_there", "num_frames")] == [3, 4, 12]


def test_nothing_found_and_nothing_there() -> None:
    none = rows()
    missed = scores(none, WALK)
    assert (missed["hota"], missed["recall"], missed["b_cubed_precision"]) == (0, 0, None)
    assert scores(WALK, none)["precision"] == 0
    assert scores(none, none)["num_frames"] == 0
