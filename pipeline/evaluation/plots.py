"""Draw figures as PNG files, without a screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")

from matplotlib.figure import Figure

GENDERS = {"M": ("male", "tab:blue"), "F": ("female", "tab:orange"), None: ("gender unknown", "tab:grey")}
LEFT_OUT = {"epoch", "seconds", "learning_rate"}


def plot_history(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every numeric column of a training's history over its epochs, one panel each."""
    names = [name for name in rows[-1] if name not in LEFT_OUT and _is_number(rows[-1][name])]
    if not names:
        return
    figure = Figure(figsize=(4 * min(len(names), 3), 2.6 * -(-len(names) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False).flat
    for panel, name in zip(panels, names, strict=False):
        known = [row for row in rows if _is_number(row.get(name))]
        panel.plot([int(row["epoch"]) for row in known], [float(row[name]) for row in known], marker=".")
        panel.set_title(name)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
    for panel in list(panels)[len(names) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=100)


def plot_ages(labels: pd.DataFrame, path: Path) -> None:
    """Draw the number of pictures per year of age, by gender.

    labels: columns age_low and age_high (years, inclusive; NaN: unknown) and gender ('M', 'F' or None). A range is
        hatched and spread evenly over its years.
    """
    known = labels[labels["age_low"].notna()]
    if known.empty:
        return
    lows = np.floor(known["age_low"].to_numpy(np.float64)).astype(np.int64)
    highs = np.maximum(np.floor(known["age_high"].to_numpy(np.float64)).astype(np.int64), lows)
    start, end = int(min(lows.min(), 0)), int(highs.max()) + 1
    years = np.arange(start, end)
    figure = Figure(figsize=(9, 4), layout="constrained")
    panel = figure.subplots()
    base = np.zeros(len(years))
    for is_range in (False, True):
        for gender, (name, colour) in GENDERS.items():
            of_gender = known["gender"].isna() if gender is None else known["gender"] == gender
            chosen = of_gender.to_numpy() & ((known["age_low"] < known["age_high"]).to_numpy() == is_range)
            if not chosen.any():
                continue
            low, high = lows[chosen] - start, highs[chosen] - start
            steps = np.zeros(len(years) + 1)
            np.add.at(steps, low, 1 / (high - low + 1))
            np.add.at(steps, high + 1, -1 / (high - low + 1))
            counts = np.cumsum(steps)[:-1]
            label = f"{name}, {'ranges' if is_range else 'exact'}: {int(chosen.sum()):,}"
            hatch = {"hatch": "///", "alpha": 0.45} if is_range else {}
            panel.bar(years, counts, 1.0, base, align="edge", color=colour, label=label, **hatch)
            base += counts
    panel.set_xlabel("age, years")
    panel.set_ylabel("pictures a year of age")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=100)


def plot_speed(figures: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over time per face: one point with its interval per estimator.

    figures: name -> seconds, and mae and gender_accuracy with NAME_low and NAME_high, as `evaluate attributes` writes
        them.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    for panel, key, title in zip(
        figure.subplots(1, 2).flat,
        ("mae", "gender_accuracy"),
        ("age: mean absolute error, years", "gender: share that is right"),
        strict=True,
    ):
        for name, point in figures.items():
            if point[key] is None or not point["seconds"]:
                continue
            ends = [point[f"{key}_low"], point[f"{key}_high"]]
            reach = None if None in ends else [[point[key] - ends[0]], [ends[1] - point[key]]]
            panel.errorbar([1000 * point["seconds"]], [point[key]], reach, fmt="o", capsize=3, label=name)
        panel.set_xscale("log")
        panel.set_xlabel("ms per face")
        panel.set_title(title)
        panel.grid(alpha=0.3, which="both")
        if panel.get_legend_handles_labels()[1]:
            panel.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
