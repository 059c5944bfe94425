from dataclasses import replace

import pytest

from pipeline.cores.link import seats
from tests.bench import folds
from tests.bench.artificial_gaps import Case
from tests.cores.link.people import PARAMS

RIGHT = Case("a", False, "cut", 1.0, True, 0, "alike", 0.0, 1.0, 0.0)
MISSED, WRONG = replace(RIGHT, joined=False), replace(RIGHT, joined=False, num_wrong=1)


def elsewhere(*cases: Case) -> list[Case]:
    return [replace(case, video="b") for case in cases]


def test_a_value_is_chosen_on_the_other_clips_alone() -> None:
    """On clip a the value 1 is better, on clip b the value 2."""
    results = {1.0: [RIGHT, RIGHT, *elsewhere(MISSED, RIGHT)], 2.0: [MISSED, RIGHT, *elsewhere(RIGHT, RIGHT)]}
    assert (folds.chosen(results, "a", 0.98), folds.chosen(results, "b", 0.98)) == (2.0, 1.0)
    assert folds.table("x", results, 0.98).splitlines()[-1] == "left-out clips together: 0.500, 1.000 of 4"


def test_recall_does_not_pay_for_wrong_joins() -> None:
    results = {1.0: [RIGHT, RIGHT, WRONG], 2.0: [RIGHT, MISSED, MISSED]}
    assert folds.chosen(results, "b", 0.98) == 2.0
    assert folds.chosen(results, "b", 0.6) == 1.0


def test_a_constant_is_what_it_was_after_all_values_were_tried() -> None:
    usual = seats.TAKEN
    used = [seats.TAKEN for _ in folds.tried("pipeline.cores.link.seats.TAKEN", [0.3, 0.4], PARAMS)]
    assert (used, seats.TAKEN) == ([0.3, 0.4], usual)
    assert [p.max_gap_s for _, p in folds.tried("identity.max_gap_s", [2, 3], PARAMS)] == [2, 3]


@pytest.mark.parametrize("text", ["identity.max_gap_s", "identity.max_gap_s=", "identity.max_gap_s=1,b"])
def test_values_must_be_numbers(text: str) -> None:
    with pytest.raises(folds.argparse.ArgumentTypeError):
        folds.values_of(text)
