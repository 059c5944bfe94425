"""Figures as PNG files, drawn without a screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure  # noqa: E402  (after the choice of what draws)

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


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
