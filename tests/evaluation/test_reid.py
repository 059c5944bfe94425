import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.evaluation.reid import auc_figures, count_pairs, cover, rank, ranking_figures


def unit(rng: np.random.Generator, count: int, dimensions: int = 6) -> NDArray[np.float32]:
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_ranks_are_those_of_market_1501() -> None:
    """Against scikit-learn's average precision, crops of the same person and camera taken out by hand."""
    rng = np.random.default_rng(0)
    vectors, people, cameras = unit(rng, 60), rng.integers(0, 8, 60), rng.integers(0, 2, 60)
    everyone = np.ones(60, bool)
    ranking = rank(vectors, people, cameras, queries=everyone, gallery=everyone)
    expected, first = [], []
    for query in range(60):
        kept = (people != people[query]) | (cameras != cameras[query])
        truth, alike = people[kept] == people[query], vectors[kept] @ vectors[query]
        if truth.any():
            expected.append(average_precision_score(truth, alike))
            first.append(truth[np.argmax(alike)])
    assert ranking.precisions == pytest.approx(expected)
    assert ranking.hits.tolist() == first


def test_a_query_without_a_match_counts_for_nothing() -> None:
    vectors = np.eye(3, dtype=np.float32)
    ranking = rank(
        vectors,
        np.array([1, 1, 2]),
        np.array([0, 1, 0]),
        queries=np.array([True, False, True]),
        gallery=np.array([False, True, False]),
    )
    assert ranking.people.tolist() == [1]
    figures = ranking_figures(ranking, resamples=10, rng=np.random.default_rng(0))
    assert figures["rank1"] == figures["map"] == 1
    assert figures["rank1_interval"] == (1, 1)


def test_the_auc_of_pairs_is_that_of_all_pairs_a_second_apart() -> None:
    rng = np.random.default_rng(1)
    tracks, times_s = rng.integers(0, 5, 80), np.sort(rng.uniform(0, 6, 80))
    centres = unit(rng, 5)
    vectors = centres[tracks] + 0.6 * unit(rng, 80)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    figures = auc_figures(
        {"video": count_pairs(vectors, tracks, times_s, min_gap_s=1)}, resamples=50, rng=np.random.default_rng(0)
    )
    a, b = np.triu_indices(80, 1)
    apart = np.abs(times_s[a] - times_s[b]) >= 1
    expected = roc_auc_score((tracks[a] == tracks[b])[apart], np.sum(vectors[a] * vectors[b], axis=1)[apart])
    video = figures["video"]
    assert isinstance(video, dict)
    assert video["auc"] == pytest.approx(expected, abs=1e-3)
    assert video["same_pairs"] + video["different_pairs"] == apart.sum()
    low, high = video["auc_interval"]
    assert low < expected < high


def test_pairs_of_two_videos_are_never_compared() -> None:
    """Two videos of one person each, alike over the videos: there are no pairs of different people."""
    vectors, times_s = np.ones((4, 1), np.float32), np.arange(4.0)
    first = count_pairs(vectors, np.zeros(4, np.int64), times_s, min_gap_s=1)
    figures = auc_figures({"a": first, "b": first}, resamples=3, rng=np.random.default_rng(0))
    assert figures["pooled"] == {
        "auc": None, "auc_interval": None, "tracks": 2, "same_pairs": 12, "different_pairs": 0
    }  # fmt: skip


def test_what_covers_a_box_is_of_its_own_frame() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 25, 10], [0, 0, 10, 10]], np.float32)
    assert cover(np.array([1, 1, 2]), boxes).tolist() == [0.5, 0.25, 0]
