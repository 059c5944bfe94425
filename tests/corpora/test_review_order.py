from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.corpora import faces
from pipeline.corpora.review_order import certainty, contradicted, order, read_predictions
from pipeline.errors import UserError


def labels(*rows: tuple[str, float | None, float | None, str | None]) -> pd.DataFrame:
    """name, age_low, age_high, gender."""
    names, lows, highs, genders = zip(*rows, strict=True)
    return faces.table(Path("/x"), names, age=lows, age_low=lows, age_high=highs, gender=genders, source="x")


def predictions(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["predicted_age", "age_low", "age_high", "female_prob"], dtype=float)


def test_ages_to_20_come_first_and_within_each_half_the_least_certain() -> None:
    table = labels(("a", 60, 60, "F"), ("b", 20, 20, "F"), ("c", 3, 3, "F"), ("d", 21, 21, "F"), ("e", None, None, "F"))
    assert table["name"][order(table, np.array([0.1, 0.9, 0.5, 0.05, 0.0]))].tolist() == ["c", "b", "e", "d", "a"]


def test_equals_go_by_name_and_the_unknown_last() -> None:
    table = labels(("c", 5, 5, "F"), ("b", 5, 5, "F"), ("a", 5, 5, "F"))
    assert order(table, np.full(3, np.nan)).tolist() == [2, 1, 0]
    assert order(table, np.array([0.2, 0.2, np.nan])).tolist() == [1, 0, 2]


def test_an_age_at_the_end_of_the_80_percent_interval_is_20_percent_certain() -> None:
    table = labels(("a", 38, 38, "F"), ("b", 24, 24, "F"), ("c", 30, 30, "F"), ("d", 60, 60, "F"))
    sure = certainty(table, predictions(*[(30, 24, 38, 1.0)] * 4))
    assert sure[:3] == pytest.approx([0.2, 0.2, 1.0], abs=1e-6)
    assert sure[3] < 1e-5


def test_the_gender_counts_where_it_is_less_certain() -> None:
    table = labels(("a", 30, 30, "F"), ("b", 30, 30, "M"), ("c", 30, 30, None), ("d", None, None, "M"))
    sure = certainty(table, predictions(*[(30, 24, 36, 0.07)] * 4))
    assert sure == pytest.approx([0.07, 0.93, 0, 0])


def test_a_label_that_is_a_range_is_missed_from_its_nearer_end() -> None:
    table = labels(("a", 25, 32, "F"), ("b", 25, 32, "F"), ("c", 25, 32, "F"))
    sure = certainty(table, predictions((29, 25, 33, 1), (36, 32, 40, 1), (21, 17, 25, 1)))
    assert sure == pytest.approx([1, 0.2, 0.2], abs=1e-6)


def test_no_prediction_no_certainty() -> None:
    assert np.isnan(certainty(labels(("a", 5, 5, "F")), predictions((np.nan, np.nan, np.nan, np.nan)))[0])


def test_copies_that_contradict_each_other() -> None:
    table = labels(
        ("a", 5, 5, "F"), ("b", 10, 10, "F"), ("c", 5, 5, "F"), ("d", 11, 11, "F"), ("e", 9, 9, "F"), ("f", 9, 9, "M")
    )
    assert contradicted(table, np.array([0, 0, 1, 1, 2, 2])).tolist() == [False, False, True, True, True, True]


def test_predictions_are_found_by_path_and_those_of_shrunk_copies_passed_over(tmp_path: Path) -> None:
    table = faces.table(tmp_path, ["a.jpg", "b.jpg"], age=[1, 2], gender=["F", "M"], source="x")
    rows = pd.DataFrame(
        {
            "path": [str(tmp_path / "b.jpg")] * 2 + ["/else/a.jpg"],
            "predicted_age": [9.0, 8.0, 7.0],
            "age_low": 1.0,
            "age_high": 20.0,
            "female_prob": 0.5,
            "copy_px": [16, 0, 0],
        }
    )
    rows.to_csv(tmp_path / "p.csv", index=False)
    assert read_predictions(tmp_path / "p.csv", table)["predicted_age"].tolist() == pytest.approx(
        [np.nan, 8], nan_ok=True
    )
    rows[2:].to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(UserError, match="no prediction for any picture"):
        read_predictions(tmp_path / "p.csv", table)
    rows.drop(columns="female_prob").to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(UserError, match="there is no female_prob"):
        read_predictions(tmp_path / "p.csv", table)
    with pytest.raises(UserError, match="there is no file of predictions"):
        read_predictions(tmp_path / "none.csv", table)
