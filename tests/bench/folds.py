"""Choose a knob or constant on all clips but one, and report it on that one (leave-one-out cross-validation)."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.cores.link.params import IdentityParams

if TYPE_CHECKING:
    from tests.bench.artificial_gaps import Case


def values_of(text: str) -> tuple[str, list[float]]:
    """Return the name and the values of NAME=VALUE,VALUE,…

    NAME is a knob, as identity.wrong_joins, or a constant with its module, as pipeline.cores.link.seats.TAKEN.
    """
    name, _, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be NAME=NUMBER,NUMBER,…") from error
    return name, numbers


def tried(name: str, values: Sequence[float], params: IdentityParams) -> Iterator[tuple[float, IdentityParams]]:
    """Yield each value with the parameters under it. A constant has the value until the next one is asked for."""
    where, _, key = name.rpartition(".")
    if where == "identity":
        yield from ((value, replace(params, **{key: value})) for value in values)
        return
    module = import_module(where)
    usual = getattr(module, key)
    try:
        for value in values:
            setattr(module, key, value)
            yield value, params
    finally:
        setattr(module, key, usual)


def chosen(results: Mapping[float, Sequence["Case"]], left_out: str, least_precision: float) -> float:
    """Return the value with the best recall on all other clips, among those that are precise enough there.

    If none is, the most precise one is chosen. Of equals the first one is chosen.
    """

    def worth(value: float) -> tuple[float, float]:
        recall, precision, _ = rates([case for case in results[value] if case.video != left_out])
        return (1.0, recall) if precision >= least_precision else (0.0, precision)

    return max(results, key=worth)


def rates(cases: Sequence["Case"]) -> tuple[float, float, int]:
    """Return recall, precision and the number of pairs of halves."""
    joined, wrong = sum(case.joined for case in cases), sum(case.num_wrong for case in cases)
    halves = sum(not case.leaves for case in cases)
    return joined / max(halves, 1), joined / max(joined + wrong, 1), halves


def table(name: str, results: Mapping[float, Sequence["Case"]], least_precision: float) -> str:
    """Return a table of recall and precision by value, and of the clips that were left out of the choice."""
    lines = [f"{name} on all clips:"]
    for value, cases in results.items():
        recall, precision, halves = rates(cases)
        lines.append(f"  {value:8g}  {recall:.3f}, {precision:.3f} of {halves}")
    lines.append("chosen without a clip, on that clip:")
    left_out: list[Case] = []
    for clip in dict.fromkeys(case.video for cases in results.values() for case in cases):
        value = chosen(results, clip, least_precision)
        here = [case for case in results[value] if case.video == clip]
        left_out += here
        recall, precision, halves = rates(here)
        lines.append(f"  {clip:24s} {value:8g}  {recall:.3f}, {precision:.3f} of {halves}")
    recall, precision, halves = rates(left_out)
    return "\n".join([*lines, f"left-out clips together: {recall:.3f}, {precision:.3f} of {halves}"])
