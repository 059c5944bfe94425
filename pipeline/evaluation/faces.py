"""Measure how well face embedders tell people apart: all pairs of labelled faces, of one person and of two."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Picture
from pipeline.evaluation.attributes import QUANTILES, aligned
from pipeline.evaluation.reid import area_under_curve
from pipeline.interfaces import FaceEmbedder

FALSE_SHARE = 0.01
"""Share of the pairs of two people that may count as one person."""


def embed(
    faces: pd.DataFrame, read: Callable[[Path], Picture], embedder: FaceEmbedder, *, batch: int
) -> NDArray[np.float32]:
    """Return the (N, D) vectors of N faces. `evaluation.attributes.aligned` explains the arguments."""
    return np.concatenate([embedder(pictures) for _, pictures in aligned(faces, read, batch=batch)])


def figures(
    vectors: NDArray[np.float32], people: NDArray[np.int64], *, resamples: int, rng: np.random.Generator
) -> dict[str, object]:
    """Return the figures of (N, D) unit vectors of faces of (N,) people, numbered from 0.

    - faces, people, same_pairs, different_pairs: numbers
    - auc: probability that a pair of one person is more similar than a pair of two people
    - found: share of the pairs of one person that are more similar than all but FALSE_SHARE of those of two people

    auc and found have NAME_interval, 95 % by resampled people. A figure is None without pairs of both kinds.
    """
    one, other = np.triu_indices(len(vectors), 1)
    values, places = np.unique((vectors @ vectors.T)[one, other], return_inverse=True)
    first, second = people[one], people[other]
    is_same = first == second
    num_people = int(people.max(initial=-1)) + 1

    def measure(weights: NDArray[np.float64]) -> tuple[float | None, float | None]:
        same, different = (
            np.bincount(places[kind], of_pair[kind], len(values)).astype(np.float64)
            for kind, of_pair in ((is_same, weights[first]), (~is_same, weights[first] * weights[second]))
        )
        return area_under_curve(same, different), _found(same, different)

    drawn = [
        measure(np.bincount(rng.integers(0, num_people, num_people), minlength=num_people).astype(np.float64))
        for _ in range(resamples)
    ]
    numbers: dict[str, object] = {
        "faces": len(vectors),
        "people": num_people,
        "same_pairs": int(is_same.sum()),
        "different_pairs": int((~is_same).sum()),
    }
    whole = measure(np.ones(num_people))
    for place, name in enumerate(("auc", "found")):
        samples = [value for sample in drawn if (value := sample[place]) is not None]
        interval = tuple(float(end) for end in np.quantile(samples, QUANTILES)) if samples else None
        numbers |= {name: whole[place], f"{name}_interval": interval}
    return numbers


def _found(same: NDArray[np.float64], different: NDArray[np.float64]) -> float | None:
    """Return the share of `same` above the similarity that only FALSE_SHARE of `different` reach. Both are (V,) numbers
    of pairs by ascending similarity."""
    if not same.sum() or not different.sum():
        return None
    reach = np.cumsum(different[::-1])[::-1]  # pairs that are at least as similar
    return float(same[reach <= FALSE_SHARE * different.sum()].sum() / same.sum())
