"""Tests of age groups, and of the counts that summaries hide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.cores.groups import (
    NEAREST_ADIENCE,
    group_indices,
    hidden_cells,
    hidden_counts,
    parse_age_groups,
)
from pipeline.errors import UserError

tables_of_counts = arrays.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 12))


def test_every_age_has_the_nearest_of_the_eight_groups() -> None:
    names = [group.name for group in NEAREST_ADIENCE]
    assert names == ["0–2", "4–6", "8–12", "15–20", "25–32", "38–43", "48–53", "60+"]
    ages = np.array([0, 2.9, 3, 6.9, 13.4, 13.5, 22.4, 34.9, 45.6, 56.5, 100, np.nan])
    assert group_indices(ages, NEAREST_ADIENCE).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 6, 7, 7, -1]


def test_free_groups_hold_both_of_their_years_and_may_leave_gaps() -> None:
    groups = parse_age_groups("0-12, 18–64,70,71+")
    assert [group.name for group in groups] == ["0–12", "18–64", "70", "71+"]
    assert group_indices(np.array([12.9, 13, 17.9, 18, 64.9, 65, 70.9, 71, 99]), groups).tolist() == [
        *(0, -1, -1, 1, 1, -1, 2, 3, 3)
    ]


@pytest.mark.parametrize("text", ["", "old", "12-3", "0-12,12-20", "65+,70+", "0-12,,20-30", "-5"])
def test_groups_that_cannot_be_read_are_an_error_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="0-12,13-17,18-64,65"):
        parse_age_groups(text)


def test_a_small_count_takes_the_next_smallest_with_it_so_that_the_sum_does_not_give_it_away() -> None:
    assert hidden_counts(np.array([20, 3, 0, 9]), 5).tolist() == [False, True, False, True]
    assert hidden_counts(np.array([20, 3, 4, 9]), 5).tolist() == [False, True, True, False]
    assert hidden_counts(np.array([20, 1, 2, 9]), 5).tolist() == [False, True, True, True]
    assert hidden_counts(np.array([20, 7]), 5).tolist() == [False, False]
    assert hidden_counts(np.array([4, 0, 0]), 5).tolist() == [True, True, True]
    assert hidden_counts(np.array([1, 1]), 1).tolist() == [False, False]


@given(tables_of_counts, st.integers(1, 8))
def test_no_hidden_people_follow_from_a_row_or_column_and_its_sum(counts: np.ndarray, min_group: int) -> None:
    hidden = hidden_cells(counts, min_group)
    shown = ~hidden.cells
    assert not ((counts > 0) & (counts < min_group) & shown).any()
    lines = [(counts[row], hidden.cells[row], hidden.rows[row]) for row in range(len(counts))]
    lines += [(counts[:, at], hidden.cells[:, at], hidden.columns[at]) for at in range(counts.shape[1])]
    for line, line_hidden, sum_hidden in lines:
        people = line[line_hidden].sum()
        assert sum_hidden or people == 0 or people >= min_group
        assert not sum_hidden or line_hidden.all()
        assert sum_hidden or not people or line_hidden.sum() >= 2
    assert hidden.total == (0 < counts.sum() < min_group)
