from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.arrays import Estimates, Picture
from pipeline.errors import UserError
from pipeline.evaluation.attributes import (
    ALIGNED_PX,
    COLUMNS,
    aligned,
    bootstrap,
    calibration_error,
    figures,
    judge,
    summary,
)

SIZES_PX = {"a": 160, "b": 20, "c": 64, "d": 160, "e": 160}


def faces() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": list(SIZES_PX),
            "age": [2.0, 30.0, 45.0, 70.0, 30.0],
            "gender": ["F", "M", "F", "M", "F"],
            "group": ["White", "White", "Asian", None, "Asian"],
        }
    )


def read(path: Path) -> Picture:
    """A picture as bright as its letter's number."""
    side = SIZES_PX[path.name]
    return np.full((side, side + 8, 3), 10 * (ord(path.name) - ord("a")), np.uint8)


class Judge:
    """Says 30 ± 10 years and a woman by .8 of everybody; remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[NDArray[np.uint8]] = []

    def __call__(self, faces: NDArray[np.uint8]) -> Estimates:
        self.shown.append(faces)
        count = len(faces)
        return Estimates(
            np.full(count, 30, np.float32), np.full(count, 10, np.float32), np.full(count, 0.8, np.float32)
        )


def test_every_picture_is_judged_once_as_an_aligned_face() -> None:
    estimator = Judge()
    judged = pd.concat(judge(faces(), read, estimator, batch=2))
    assert judged["path"].tolist() == list(SIZES_PX)
    assert judged["face_px"].tolist() == list(SIZES_PX.values())
    assert set(COLUMNS) <= set(judged.columns)
    assert (judged["copy_px"] == 0).all()
    assert (judged["age_low"] == 17.2).all()
    assert (judged["age_high"] == 42.8).all()
    shown = np.concatenate(estimator.shown[1:])  # the first call is for warming up
    assert shown.shape == (5, ALIGNED_PX, ALIGNED_PX, 3)
    assert_array_equal(shown[:, 112, 112, 0], [0, 10, 20, 30, 40])


def test_an_interval_may_lean_to_older_ages() -> None:
    def leaning(pictures: NDArray[np.uint8]) -> Estimates:
        return replace(Judge()(pictures), age_leans=np.full(len(pictures), 0.5, np.float32))

    judged = pd.concat(judge(faces(), read, leaning, batch=2))
    assert (judged["age_low"] == 23.6).all()
    assert (judged["age_high"] == 49.2).all()


def test_copies_are_smaller_than_their_pictures() -> None:
    parts = list(aligned(faces(), read, batch=5, copies_px=[32, 64]))
    rows = pd.concat([part for part, _ in parts])
    sizes = rows.groupby("path")["copy_px"].apply(list).to_dict()
    assert sizes == {"a": [0, 32, 64], "b": [0], "c": [0, 32], "d": [0, 32, 64], "e": [0, 32, 64]}
    assert all(len(part) == len(pictures) for part, pictures in parts)


def test_a_small_copy_has_lost_detail() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    parts = aligned(faces().iloc[:1], lambda path: grain, batch=1, copies_px=[16])
    original, copy = (pictures[0, 80:180, 60:160].std() for _, pictures in parts)
    assert copy < 0.5 * original


def test_what_cannot_be_read_is_not_passed_over() -> None:
    def refuse(path: Path) -> Picture:
        raise UserError(f"{path} is no picture")

    with pytest.raises(UserError, match="a is no picture"):
        list(judge(faces(), refuse, Judge(), batch=2))


def test_figures_by_hand() -> None:
    judged = pd.concat(judge(faces(), read, Judge(), batch=5))
    computed = figures(judged, resamples=200, rng=np.random.default_rng(0))
    assert computed["pictures"] == 5
    assert computed["mae"] == pytest.approx((28 + 0 + 15 + 40 + 0) / 5)
    assert computed["cs5"] == pytest.approx(2 / 5)
    assert computed["gender_accuracy"] == pytest.approx(3 / 5)
    assert computed["coverage80"] == pytest.approx(2 / 5)
    assert computed["ece"] == pytest.approx(0.2)
    for name in ("mae", "cs5", "gender_accuracy", "coverage80"):
        low, value, high = (computed[key] for key in (f"{name}_low", name, f"{name}_high"))
        assert low is not None
        assert high is not None
        assert value is not None
        assert low < value < high


def test_figures_do_without_labels_that_are_missing() -> None:
    judged = pd.concat(judge(faces().assign(age=[np.nan] * 4 + [31.0], gender=None), read, Judge(), batch=5))
    computed = figures(judged, resamples=10, rng=np.random.default_rng(0))
    assert (computed["pictures"], computed["mae"], computed["gender_accuracy"], computed["ece_low"]) == (
        5,
        1,
        None,
        None,
    )


def test_groups_are_told_apart() -> None:
    judged = pd.concat(judge(faces(), read, Judge(), batch=2, copies_px=[32]))
    by = summary(judged, resamples=0, seed=0)["by"]
    counts = {name: {label: group["pictures"] for label, group in parts.items()} for name, parts in by.items()}
    assert counts == {
        "age_group": {"0-2": 1, "30-39": 2, "40-49": 1, "70+": 1},
        "gender": {"F": 3, "M": 2},
        "group": {"Asian": 2, "White": 2},
        "face_px": {"16-23": 1, "64-95": 1, "128-191": 3},
        "copy_px": {"32": 4},
    }
    assert by["age_group"]["0-2"]["mae"] == 28


def test_pooled_figures_leave_copies_out() -> None:
    judged = pd.concat(judge(faces(), read, Judge(), batch=2, copies_px=[16, 32]))
    assert summary(judged, resamples=0, seed=0)["pooled"]["pictures"] == 5


def test_calibration_error_by_hand() -> None:
    probs = np.array([0.01, 0.02, 0.99, 1.0, 0.5])
    truth = np.array([False, True, True, True, True])
    assert calibration_error(probs, truth) == pytest.approx((abs(0.03 - 1) + abs(1.99 - 2) + 0.5) / 5)


def test_the_bootstrap_keeps_pairs_together_and_is_seeded() -> None:
    values = np.arange(50.0)

    def spread(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(np.abs(first - second).max())

    assert bootstrap((values, values), spread, resamples=20, rng=np.random.default_rng(0)) == (0, 0)
    sample, repeated = (bootstrap((values,), np.mean, resamples=2000, rng=np.random.default_rng(3)) for _ in range(2))
    assert sample == repeated
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert sample == pytest.approx((24.5 - half, 24.5 + half), abs=0.8)
