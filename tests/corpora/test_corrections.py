from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.corpora import corrections, faces
from pipeline.corpora.corrections import Correction
from pipeline.corpora.loading import load_faces
from pipeline.errors import UserError


def table(root: Path) -> pd.DataFrame:
    return faces.table(root, ["a.jpg", "b/c.jpg", "d.jpg"], age=[1, 2, None], gender=["M", None, "F"], source="x")


def wrote(path: Path, *rows: Correction) -> Path:
    for row in rows:
        corrections.append(path, row)
    return path


def test_ages_ranges_and_genders_are_corrected_and_pictures_dropped(tmp_path: Path) -> None:
    path = wrote(
        tmp_path / "new" / "c.csv",
        Correction("b/c.jpg", age="25-32", gender="F"),
        Correction("a.jpg", drop="1", note='blurred, "twice"\nover'),
        Correction(str(tmp_path / "d.jpg"), age="40"),
    )
    fixed = corrections.apply(table(tmp_path), path)
    assert fixed["name"].tolist() == ["b/c.jpg", "d.jpg"]
    assert fixed[["age_low", "age_high", "age"]].to_numpy().tolist() == [[25, 32, 28.5], [40, 40, 40]]
    assert fixed["gender"].tolist() == ["F", "F"]
    assert corrections.read(path)[1] == (3, Correction("a.jpg", drop="1", note='blurred, "twice" over'))


def test_the_last_word_on_a_picture_counts_and_a_keep_changes_nothing(tmp_path: Path) -> None:
    before = table(tmp_path)
    path = wrote(tmp_path / "c.csv", Correction("a.jpg", drop="1"), Correction("a.jpg", age="9"), Correction("a.jpg"))
    pd.testing.assert_frame_equal(corrections.apply(before, path), before)


def test_a_correction_of_no_picture_is_told_with_its_line(tmp_path: Path) -> None:
    path = wrote(tmp_path / "c.csv", Correction("a.jpg"), Correction("z.jpg", age="3"))
    with pytest.raises(UserError, match=r"c\.csv, line 3: the data set has no picture z\.jpg"):
        corrections.apply(table(tmp_path), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,age,gender,drop,note\na.jpg,old,,,\n", "line 2: age must be"),
        ("path,age,gender,drop,note\na.jpg,,x,,\n", "line 2: gender must be"),
        ("path,age,gender,drop,note\na.jpg,,,yes,\n", "line 2: drop must be 1, 0 or empty, got 'yes'"),
        ("path,age,gender,drop,note\na.jpg,,\n", "line 2: must have 5 values, got 3"),
        ("path,age\na.jpg,1\n", "must have the columns path, age, gender, drop, note"),
    ],
)
def test_faulty_corrections_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UserError) as error:
        corrections.apply(table(tmp_path), tmp_path / "c.csv")
    assert message in str(error.value)
    with pytest.raises(UserError, match="there is no file of corrections"):
        corrections.apply(table(tmp_path), tmp_path / "none.csv")


def test_a_row_that_was_cut_off_is_forgotten_and_the_next_goes_in_its_place(tmp_path: Path) -> None:
    path = wrote(tmp_path / "c.csv", Correction("a.jpg", age="12"))
    with path.open("a") as file:
        file.write("b/c.jpg,4")
    assert [row for _, row in corrections.read(path)] == [Correction("a.jpg", age="12")]
    wrote(path, Correction("d.jpg", age="5"))
    assert [row.path for _, row in corrections.read(path)] == ["a.jpg", "d.jpg"]
    path.write_text("path,ag")
    wrote(path, Correction("a.jpg"))
    assert path.read_text() == "path,age,gender,drop,note\na.jpg,,,,\n"


def test_every_loader_applies_them(tmp_path: Path) -> None:
    for name in ("1_0_0_20170101.jpg", "2_1_0_20170101.jpg"):
        (tmp_path / name).write_bytes(b"")
    path = wrote(
        tmp_path / "c.csv", Correction("1_0_0_20170101.jpg", age="7"), Correction("2_1_0_20170101.jpg", drop="1")
    )
    fixed = load_faces(tmp_path, corrected_by=path)
    assert fixed["age"].tolist() == [7]
    assert np.array_equal(load_faces(tmp_path)["age"], [1, 2])
