import numpy as np
import pytest

from pipeline.cores import purity
from pipeline.cores.likeness import Likeness
from pipeline.cores.purity import Appearance, AppearanceLog

LIKENESS = Likeness.from_distances((0.1, 0.5), (0.4, 0.3))
STEP_NS = 125_000_000
DOUBTFUL_DEGREES = 48
"""The ratio of this angle lies between the odds near a contact and elsewhere."""


def tracklet(*parts: tuple[float, float], seed: int = 0, noise: float = 0.1, step_ns: int = STEP_NS) -> AppearanceLog:
    """Return a tracklet with one appearance after another, each as (angle in degrees, seconds).

    There are 8 embeddings per second, and frames count by 3.
    """
    random = np.random.default_rng(seed)
    angles = np.concatenate([np.full(round(seconds * 1e9 / step_ns), degrees) for degrees, seconds in parts])
    appearances = AppearanceLog()
    for i, degrees in enumerate(np.radians(angles)):
        vector = np.array([np.cos(degrees), np.sin(degrees), *random.normal(size=2) * noise])
        appearances.add(3 * i, i * step_ns, (vector / np.linalg.norm(vector)).astype(np.float32))
    return appearances


def starts(appearances: AppearanceLog) -> list[float]:
    """Return the seconds at which a person begins."""
    return [part.start / 3 * STEP_NS / 1e9 for part in appearances.parts(LIKENESS)]


@pytest.mark.parametrize("seed", range(5))
def test_one_person_is_one_part(seed: int) -> None:
    assert starts(tracklet((0, 10), seed=seed, noise=0.3)) == [0]


@pytest.mark.parametrize("second", [1.0, 2.0, 5.5, 8.5])
def test_a_change_of_person_is_found_to_half_a_second(second: float) -> None:
    found = starts(tracklet((0, second), (70, 10 - second)))
    assert len(found) == 2
    assert found[1] == pytest.approx(second, abs=0.5)


def test_every_change_is_found() -> None:
    assert starts(tracklet((0, 3), (70, 2), (140, 4))) == [0, 3, 5]
    assert starts(tracklet((0, 3), (70, 2), (0, 4))) == [0, 3, 5]


def test_who_looks_a_little_different_is_still_one_person() -> None:
    assert starts(tracklet((0, 5), (30, 5))) == [0]


def test_who_is_covered_for_less_than_a_second_is_not_divided() -> None:
    assert len(starts(tracklet((0, 5), (90, 0.5)))) == 1
    assert len(starts(tracklet((90, 0.5), (0, 5)))) == 1


def test_without_a_likeness_nothing_is_divided() -> None:
    assert len(tracklet((0, 5), (90, 5)).parts(None)) == 1
    assert AppearanceLog().parts(LIKENESS) == []


def test_each_part_has_its_own_mean_and_steadiness() -> None:
    first, second = tracklet((0, 3), (90, 3), noise=0.001).parts(LIKENESS)
    assert _angle(first) == pytest.approx(0, abs=1)
    assert _angle(second) == pytest.approx(90, abs=1)
    assert first.steadiness == second.steadiness == 1
    (whole,) = tracklet((0, 3), (90, 3), noise=0.001).parts(None)
    assert whole.steadiness == 0


def test_hours_cost_no_more_memory_and_lose_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purity, "MAX_WINDOWS", 8)
    appearances = tracklet((0, 60), (70, 60), step_ns=STEP_NS)
    assert len(appearances._totals) <= 8
    assert (
        len(appearances._totals) == len(appearances._counts) == len(appearances._starts) == len(appearances._begun_ns)
    )
    assert sum(appearances._counts) == 960
    assert starts(appearances) == [0, pytest.approx(60, abs=8)]
    (whole,) = appearances.parts(None)
    assert np.linalg.norm(whole.total) == pytest.approx(960 * np.cos(np.radians(35)), rel=0.02)


def _angle(look: Appearance) -> float:
    return float(np.degrees(np.arctan2(look.total[1], look.total[0])))


def half_sure(touched_s: float | None) -> AppearanceLog:
    """Return a tracklet that looks somewhat different from its fifth second on and touches somebody at a time."""
    random = np.random.default_rng(0)
    appearances = AppearanceLog()
    for i in range(80):
        degrees = np.radians(0 if i < 40 else DOUBTFUL_DEGREES)
        vector = np.array([np.cos(degrees), np.sin(degrees), *random.normal(size=2) * 0.02])
        touches = touched_s is not None and abs(i * STEP_NS / 1e9 - touched_s) < 0.2
        appearances.add(3 * i, i * STEP_NS, (vector / np.linalg.norm(vector)).astype(np.float32), touches=touches)
    return appearances


def test_a_contact_makes_a_change_of_person_more_likely_there_and_only_there() -> None:
    assert len(starts(half_sure(None))) == 1
    assert starts(half_sure(5)) == [0, 5]
    assert starts(half_sure(4.3)) == [0, 5]
    assert len(starts(half_sure(2))) == 1
    assert len(starts(half_sure(8))) == 1
