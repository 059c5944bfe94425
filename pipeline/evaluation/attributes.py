"""Measure age and gender estimates: figures with intervals, pooled and by group, from every single prediction.

The intervals are 95 % percentile bootstraps over pictures (Efron 1979).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.cores.vote import Z_80, age_interval
from pipeline.interfaces import AttributeEstimator
from pipeline.models.aligned import UTKFACE

ALIGNED_PX = 224
"""Side of the aligned faces that `process` judges."""
ECE_BINS = 15
"""As in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""
CS_YEARS = 5
QUANTILES = (0.025, 0.975)
AGE_GROUPS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
"""First years of the age groups."""
FACE_SIZES = (0, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""First sides, in px, of the groups by picture size. The shorter side counts."""
COPIES_PX = (16, 24, 32, 48, 64)
"""Sides of the small copies that a model card reports."""
COLUMNS = ("path", "age", "gender", "predicted_age", "age_low", "age_high", "female_prob", "seconds")
"""The columns of every prediction. estimator, group, face_px and copy_px follow them."""


def judge(
    faces: pd.DataFrame,
    read: Callable[[Path], Picture],
    estimator: AttributeEstimator,
    *,
    batch: int,
    copies_px: Sequence[int] = (),
) -> Iterator[pd.DataFrame]:
    """Judge all `faces`, batch by batch. `aligned` explains the arguments.

    Yields COLUMNS, group, face_px (the picture's shorter side) and copy_px (0 for the picture itself). seconds is the
    time of the estimator alone, per face.
    """
    estimator(np.zeros((batch, ALIGNED_PX, ALIGNED_PX, 3), np.uint8))  # warm up: the first call is slower
    for rows, pictures in aligned(faces, read, batch=batch, copies_px=copies_px):
        started = time.perf_counter()
        estimates = estimator(pictures)
        seconds = (time.perf_counter() - started) / len(rows)
        ages = estimates.ages.astype(np.float64)
        leans = 0.0 if estimates.age_leans is None else estimates.age_leans.astype(np.float64)
        lows, highs = age_interval(ages, Z_80 * estimates.age_stds.astype(np.float64), leans)
        yield rows.assign(
            predicted_age=ages.round(1),
            age_low=lows.round(1),
            age_high=highs.round(1),
            female_prob=estimates.female_probs.astype(np.float64).round(3),
            seconds=seconds,
        )


def aligned(
    faces: pd.DataFrame, read: Callable[[Path], Picture], *, batch: int, copies_px: Sequence[int] = ()
) -> Iterator[tuple[pd.DataFrame, NDArray[np.uint8]]]:
    """Align `faces` as the pipeline would: yield rows with face_px and copy_px, and (N, 224, 224, 3) pictures.

    faces: columns path, age, gender and group. The pictures show UTKFACE's window.
    read: reads a picture, and raises if it cannot be read.
    copies_px: sides of additional shrunk copies. A picture that is not larger gets no copy.
    """
    for start in range(0, len(faces), batch):
        rows = faces.iloc[start : start + batch][["path", "age", "gender", "group"]]
        pictures = [read(Path(path)) for path in rows["path"]]
        sides = np.array([min(picture.shape[:2]) for picture in pictures])
        rows = rows.assign(face_px=sides)
        for side in (0, *copies_px):
            chosen = sides > side
            if chosen.any():
                shown = [
                    pictures[place] if not side else _shrunk(pictures[place], side) for place in np.flatnonzero(chosen)
                ]
                filled = [UTKFACE.fill(face[None], ALIGNED_PX) for face in shown]
                yield rows[chosen].assign(copy_px=side), np.concatenate(filled)


def summary(judged: pd.DataFrame, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return the figures of one estimator's predictions (rows of `judge`).

    `pooled` has all of them. `by` has them by age_group, gender, group, face_px and copy_px: label -> figures.
    """
    originals, copies = judged[judged["copy_px"] == 0], judged[judged["copy_px"] > 0]
    groups = {
        "age_group": originals.groupby(_binned(originals["age"], AGE_GROUPS), observed=True),
        "gender": originals.groupby("gender"),
        "group": originals.groupby("group"),
        "face_px": originals.groupby(_binned(originals["face_px"], FACE_SIZES), observed=True),
        "copy_px": copies.groupby("copy_px"),
    }

    def figures_of(rows: pd.DataFrame) -> dict[str, float | int | None]:
        return figures(rows, resamples=resamples, rng=np.random.default_rng(seed))

    by = {name: {str(label): figures_of(rows) for label, rows in parts} for name, parts in groups.items()}
    return {"pooled": figures_of(originals), "by": by}


def figures(rows: pd.DataFrame, *, resamples: int, rng: np.random.Generator) -> dict[str, float | int | None]:
    """Return pictures, seconds (mean per face), and mae, cs5, gender_accuracy, ece and coverage80.

    Each figure has NAME_low and NAME_high. Rows without a label or an estimate do not count. A figure without rows is
    None.
    """
    aged = rows[rows["age"].notna() & rows["predicted_age"].notna()]
    gendered = rows[rows["gender"].notna() & rows["female_prob"].notna()]
    errors = np.asarray(np.abs(aged["predicted_age"] - aged["age"]), np.float64)
    covered = np.asarray((aged["age_low"] <= aged["age"]) & (aged["age"] <= aged["age_high"]))
    probs, is_female = gendered["female_prob"].to_numpy(np.float64), (gendered["gender"] == "F").to_numpy()
    values_by_name: dict[str, float | int | None] = {"pictures": len(rows), "seconds": _rounded(rows["seconds"].mean())}
    samples: dict[str, tuple[tuple[NDArray[Any], ...], Callable[..., float]]] = {
        "mae": ((errors,), np.mean),
        "cs5": ((errors <= CS_YEARS,), np.mean),
        "gender_accuracy": (((probs >= 0.5) == is_female,), np.mean),
        "ece": ((probs, is_female), calibration_error),
        "coverage80": ((covered,), np.mean),
    }
    for name, (values, figure) in samples.items():
        low, high = bootstrap(values, figure, resamples=resamples, rng=rng)
        value = figure(*values) if len(values[0]) else float("nan")
        values_by_name |= {name: _rounded(value), f"{name}_low": _rounded(low), f"{name}_high": _rounded(high)}
    return values_by_name


def calibration_error(probs: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: how far probabilities and frequencies differ in ECE_BINS equal bins."""
    bins = np.minimum((probs * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, probs, ECE_BINS) - np.bincount(bins, truth, ECE_BINS)
    return float(np.abs(gaps).sum() / len(probs))


def bootstrap(
    samples: Sequence[NDArray[Any]], figure: Callable[..., float], *, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the interval of `figure` over paired (N,) samples, or (NaN, NaN) if there are none."""
    num = len(samples[0])
    if not num or not resamples:
        return float("nan"), float("nan")
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(0, num, num)
        drawn.append(figure(*(sample[chosen] for sample in samples)))
    low, high = np.quantile(drawn, QUANTILES)
    return float(low), float(high)


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _binned(values: pd.Series, starts: Sequence[int]) -> pd.Series:
    """Return the label of each value's group: '0-2', '3-9', …, '70+'."""
    labels = [f"{low}-{high - 1}" for low, high in pairwise(starts)] + [f"{starts[-1]}+"]
    return pd.cut(values, [*starts, np.inf], right=False, labels=labels)


def _shrunk(picture: Picture, side_px: int) -> Picture:
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
