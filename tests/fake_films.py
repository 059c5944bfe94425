"""Simulated films and settings drawn by hypothesis. They are short and full of events that could reveal the borders
of chunks."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from pipeline.storage import tables
from pipeline.video import blocks, parts, windows
from tests.builders import Film, Walker


def tenths(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(low * 10), round(high * 10)).map(lambda n: n / 10)


def spans(duration_s: float) -> st.SearchStrategy[tuple[tuple[float, float], ...]]:
    span = st.tuples(tenths(0, duration_s), tenths(0.1, 3)).map(lambda s: (s[0], s[0] + s[1]))
    return st.lists(span, max_size=2).map(tuple)


@st.composite
def walkers(draw: st.DrawFn, duration_s: float) -> Walker:
    """Draw people who start, stop, hide, cross one another and leave the picture. They share few rows of the picture
    and few appearances."""
    start_s = draw(st.one_of(st.just(0.0), st.just(0.0), tenths(0, duration_s)))
    return Walker(
        start_s=start_s,
        end_s=draw(st.one_of(st.just(duration_s), tenths(start_s, duration_s))),
        x=draw(st.sampled_from([0, 20, 50, 200, 300, 580])),
        speed=draw(st.sampled_from([0, 30, -30, 90, -150])),
        y=draw(st.sampled_from([100, 100, 110, 250])),
        look=draw(st.sampled_from([None, 1, 1, 1.3, 2, 3])),
        hidden=draw(spans(duration_s)),
        weak=draw(spans(duration_s)),
        age=draw(st.sampled_from([None, 30.4, 61.2])),
        female_prob=draw(st.sampled_from([0.1, 0.9])),
        face=draw(st.sampled_from([None, 1, 2])),
    )


@st.composite
def films(draw: st.DrawFn) -> Film:
    """Draw a few seconds with cuts at and near the borders of cells, jitter, pauses in time and times without
    people."""
    duration_s = draw(st.one_of(tenths(3, 7), tenths(0.2, 7)))
    fps = draw(st.sampled_from([5, 10, 16]))
    step_s = 1 / fps
    cells = range(int(duration_s) + 1)
    beside = [round(cell + shift, 4) for cell in cells for shift in (-step_s, 0, step_s)]
    num_cuts = draw(st.sampled_from([0, 1, 2, 4]))
    cuts = draw(st.lists(st.one_of(st.sampled_from(beside), tenths(0, duration_s)), min_size=num_cuts, max_size=4))
    return Film(
        duration_s,
        draw(st.lists(walkers(duration_s), min_size=draw(st.sampled_from([0, 1, 2, 3])), max_size=4).map(tuple)),
        cuts=tuple(cuts),
        shift_ns=draw(st.sampled_from([0, 3_000_000, int(0.4e9 / fps)])),
        seed=draw(st.integers(0, 3)),
        fps=fps,
        analysed_fps=draw(st.sampled_from([4, 8])),
        holes=draw(spans(duration_s)),
        damaged=draw(st.lists(st.sampled_from(cells), max_size=2, unique=True).map(lambda d: tuple(sorted(d)))),
        strangers=draw(st.lists(st.sampled_from(cells), max_size=2).map(tuple)),
    )


@st.composite
def knobs(draw: st.DrawFn) -> tuple[str, ...]:
    others = ["ocsort", "botsort", "boosttrack", "deepocsort", "sfsort"]
    tracker = draw(st.one_of(st.just("occluboost"), st.sampled_from(["bytetrack", *others])))
    return (
        f"track.tracker={tracker}",
        f"track.memory_s={draw(st.sampled_from([0.5, 1, 2]))}",
        f"track.min_frames={draw(st.sampled_from([1, 3]))}",
        f"track.fill_gap_s={draw(st.sampled_from([0.3, 1]))}",
        f"cuts.min_shot_s={draw(st.sampled_from([0.001, 0.6]))}",
        f"person.min_faces={draw(st.sampled_from([1, 2]))}",
        f"biometrics.keep={draw(st.booleans())}".lower(),
    )


@contextmanager
def in_haste() -> Iterator[None]:
    """Make tests fast: small row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROWS_PER_GROUP", 50)
        patch.setattr(blocks, "ROWS_PER_BLOCK", 20)
        yield


@contextmanager
def in_steps(frames_per_part: int, frames_per_window: int) -> Iterator[None]:
    """Set how many frames the reduce tracks in one task, and how many it holds at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "MS_PER_PART", frames_per_part * parts.MS_PER_FRAME)
        patch.setattr(windows, "FRAMES_PER_WINDOW", frames_per_window)
        yield
