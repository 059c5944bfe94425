"""Measure whether restoration helps: the same shrunken faces, judged as they are and restored.

Each face is its own control: the difference between its two estimates counts, with its interval.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from pipeline.arrays import Picture
from pipeline.interfaces import AttributeEstimator
from pipeline.models.aligned import UTKFACE

ALIGNED_PX, RESTORED_PX = 224, 512
"""Sides of the aligned faces that `process` judges as they are, and of those that it restores."""
EYE_SHARE = 0.385
"""Eye distance over the side of UTKFACE's window: 126 of 512 px of the aligned face, of which the window is .64 wide.
"""
RESAMPLES, SEED = 2000, 0

ENLARGEMENTS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}

Restore = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Maps (N, 512, 512, 3) uint8 RGB aligned faces to restored ones of the same shape."""


def compare(
    faces: pd.DataFrame,
    read: Callable[[Path], Picture],
    sizes_px: Sequence[int],
    estimator: AttributeEstimator,
    *,
    restore: Restore | None,
    enlargement: str = "bilinear",
    batch: int,
) -> Iterator[pd.DataFrame]:
    """Judge `faces`, batch by batch, at each size with and without restoration.

    Yields a row per face and size: path, age, gender, size_px, age_plain, female_plain, age_restored, female_restored.

    faces: columns path, age and gender. The pictures show UTKFACE's window.
    sizes_px: sides to shrink to. Sizes larger than the picture are skipped.
    restore: None compares only the `enlargement`, one of ENLARGEMENTS.
    """
    for start in range(0, len(faces), batch):
        rows = faces.iloc[start : start + batch]
        pictures = [read(Path(path)) for path in rows["path"]]
        for size in sizes_px:
            fits = [min(picture.shape[:2]) >= size for picture in pictures]
            if not any(fits):
                continue
            small = [_scaled(face, size, cv2.INTER_AREA) for face, fit in zip(pictures, fits, strict=True) if fit]
            plain = estimator(_aligned(small, ALIGNED_PX, "bicubic"))
            large = _aligned(small, RESTORED_PX, enlargement)
            restored = estimator(large if restore is None else restore(large))
            yield rows.loc[fits, ["path", "age", "gender"]].assign(
                size_px=size,
                age_plain=plain.ages,
                female_plain=plain.female_probs,
                age_restored=restored.ages,
                female_restored=restored.female_probs,
            )


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Return figures without and with restoration for each size_px, and the differences with 95 % intervals.

    Columns: num_faces, eye_distance_px, and mae_plain, mae_restored, mae_change, mae_low, mae_high, and the same for
    gender_accuracy. Restoration helps if mae_change is negative or gender_accuracy_change is positive.
    """
    lines = []
    for size, rows in judged.groupby("size_px"):
        line: dict[str, float] = {
            "size_px": int(str(size)),
            "num_faces": len(rows),
            "eye_distance_px": round(EYE_SHARE * float(str(size)), 1),
        }
        is_female = rows["gender"].to_numpy() == "F"
        scores = {
            "mae": [np.abs((rows[f"age_{arm}"] - rows["age"]).to_numpy(np.float64)) for arm in ARMS],
            "gender_accuracy": [
                ((rows[f"female_{arm}"].to_numpy() >= 0.5) == is_female).astype(np.float64) for arm in ARMS
            ],
        }
        for name, (plain, restored) in scores.items():
            low, high = _interval(restored - plain)
            line |= {f"{name}_{arm}": values.mean() for arm, values in zip(ARMS, (plain, restored), strict=True)}
            line |= {f"{name}_change": (restored - plain).mean(), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


ARMS = ("plain", "restored")


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the percentile bootstrap of the mean. A single or constant difference has no width."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float(differences.mean()), float(differences.mean())
    drawn = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(SEED)
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _aligned(crops: Sequence[Picture], side_px: int, enlargement: str) -> NDArray[np.uint8]:
    """Convert crops of any size that show UTKFACE's window to (N, side_px, side_px, 3) aligned faces."""
    window_px = round((UTKFACE.right - UTKFACE.left) * side_px), round((UTKFACE.bottom - UTKFACE.top) * side_px)
    filled = [
        np.asarray(cv2.resize(crop, window_px, interpolation=ENLARGEMENTS[enlargement]), np.uint8) for crop in crops
    ]
    return UTKFACE.fill(np.stack(filled), side_px)


def _scaled(picture: Picture, side_px: int, interpolation: int) -> Picture:
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=interpolation), np.uint8)
