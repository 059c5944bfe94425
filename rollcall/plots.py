"""Plots of tables. Each returns the axes that it has drawn on."""

from math import erf, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.text import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GENDERS = {"M": ("male", "#0072b2"), "F": ("female", "#e69f00"), "N": ("gender unsure", "#8c8c8c")}
"""Name and colour by gender. The hues differ for people with any colour vision (Okabe and Ito, 2008)."""
DEVIATIONS = 2.563
"""Width of an 80 % interval of a normal distribution, in standard deviations."""
GROUP_YEARS, TAIL_YEARS = 5, 15
LABELLED_PERSONS = 40


def timeline(title: str, persons: pa.Table, tracklets: pa.Table, shots: pa.Table, ax: "Axes | None" = None) -> "Axes":
    """Draw a row per person, with a bar for each of its tracklets, over the borders of shots."""
    people = persons.to_pylist()
    ax = ax or _axes(height=1.2 + 0.35 * min(max(len(people), 2), LABELLED_PERSONS))
    row_of = {person["person_id"]: place for place, person in enumerate(people)}
    spans: dict[int, list[tuple[float, float]]] = {}
    for tracklet in tracklets.to_pylist():
        span = (tracklet["start_s"], tracklet["end_s"] - tracklet["start_s"])
        spans.setdefault(tracklet["person_id"], []).append(span)
    for person in people:
        colour = GENDERS[person["gender"]][1]
        ax.broken_barh(spans.get(person["person_id"], []), (row_of[person["person_id"]] - 0.35, 0.7), color=colour)
    for shot in shots.to_pylist()[1:]:
        ax.axvline(shot["start_s"], color="0.75", linewidth=1, linestyle=":", zorder=0)
    if len(people) <= LABELLED_PERSONS:
        ax.set_yticks(range(len(people)), [_label(person) for person in people])
    else:
        ax.set_ylabel("person")
    ax.set_ylim(max(len(people), 1) - 0.4, -0.6)
    if len(shots):
        ax.set_xlim(0, shots["end_s"].to_pylist()[-1])
    ax.set_xlabel("time, s (dotted: cuts)")
    ax.set_title(title)
    _legend(ax, {person["gender"] for person in people})
    return ax


def _label(person: dict[str, Any]) -> str:
    if person["age"] is None:
        return f"person {person['person_id']}: no age"
    return f"person {person['person_id']}: {person['age']:.0f} ({person['age_low']:.0f} to {person['age_high']:.0f})"


def ages(persons: pa.Table, ax: "Axes | None" = None) -> "Axes":
    """Draw the expected number of persons in each group of five years, stacked by gender."""
    people = [person for person in persons.to_pylist() if person["age"] is not None]
    ax = ax or _axes(height=3.6)
    top = max([60.0, *(person["age_high"] + TAIL_YEARS for person in people)])
    borders = np.arange(0, top + GROUP_YEARS, GROUP_YEARS)
    bottom = np.zeros(len(borders) - 1)
    for gender, (name, colour) in GENDERS.items():
        shares = [spread(person, borders) for person in people if person["gender"] == gender]
        if shares:
            heights = np.sum(shares, axis=0)
            label = f"{name}: {len(shares)}"
            ax.bar(
                borders[:-1], heights, GROUP_YEARS, bottom, align="edge", color=colour, edgecolor="white", label=label
            )
            bottom += heights
    ax.set_xlabel("age, years")
    ax.set_ylabel(f"persons in {GROUP_YEARS} years")
    ax.set_xlim(0, borders[-1])
    without = len(persons) - len(people)
    ax.set_title(f"{count(len(people), 'person')}, spread over their likely ages; {without} without an age")
    if people:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def spread(person: dict[str, Any], borders: np.ndarray) -> np.ndarray:
    """Return the probability of each age group for a person with an age. Ages below the first border count to the
    first group, and ages above the last border to the last.

    borders: (N + 1,) years.
    """
    deviation = max((person["age_high"] - person["age_low"]) / DEVIATIONS, 0.1)
    below = np.array([0.5 * (1 + erf((border - person["age"]) / (deviation * sqrt(2)))) for border in borders])
    below[0], below[-1] = 0.0, 1.0
    return np.diff(below)


def _axes(height: float) -> "Axes":
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UserError("plots need the package matplotlib; install it: pip install 'rollcall[plots]'") from None
    return pyplot.subplots(figsize=(9, height), layout="constrained")[1]


def _legend(ax: "Axes", genders: set[str]) -> None:
    if not genders:
        return
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for gender, (name, colour) in GENDERS.items() if gender in genders]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
