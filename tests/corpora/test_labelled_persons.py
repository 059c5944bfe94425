from math import isnan
from pathlib import Path

import pytest

from pipeline.corpora.labelled_persons import COLUMNS, put_row, read_persons, read_rows
from pipeline.errors import UserError

LIST = Path(__file__).parents[1] / "evaluation" / "persons_of_clips.csv"


def write(folder: Path, *rows: str) -> Path:
    path = folder / "persons.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def test_a_row_is_a_person_at_a_moment(tmp_path: Path) -> None:
    first, second = read_persons(
        write(tmp_path, "a.mp4,1.5,10,20,30,40,20-35,female,48", "b,0,0,0,1,1,unknown,Unknown,")
    )
    assert (first.video, first.time_s, first.box) == ("a.mp4", 1.5, (10, 20, 40, 60))
    assert (first.age_low, first.age, first.age_high, first.gender, first.face_px) == (20, 27.5, 35, "F", 48)
    assert isnan(second.age)
    assert (second.gender, second.face_px) == (None, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",0,0,0,1,1,,,", "line 2: video is empty"),
        ("a,soon,0,0,1,1,,,", "line 2: time_s must be a number, got 'soon'"),
        ("a,nan,0,0,1,1,,,", "time_s must be a number"),
        ("a,-1,0,0,1,1,,,", "time_s must not be below 0"),
        ("a,0,0,0,0,1,,,", "the box has no area"),
        ("a,0,0,0,1,1,old,,", "age must be years"),
        ("a,0,0,0,1,1,,X,", "gender must be M"),
        ("a,0,0,0,1,1,,,wide", "face_px must be a number"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_persons(write(tmp_path, row))


def test_a_list_as_a_spreadsheet_saves_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4,1.5,10,20,30,40,20–35,F,", "b,0,0,0,1,1,,", "", "")
    path.write_text(path.read_text().replace("\n", "\r\n"), encoding="utf-8-sig")
    first, _ = read_persons(path)
    assert (first.video, first.age_high, first.face_px) == ("a.mp4", 35, 0)


def test_semicolons_between_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4,1.5,10,20,30,40,20-35,F,")
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(UserError, match="semicolons between its columns; save it with commas"):
        read_persons(path)


def test_a_list_without_rows_is_one_to_begin_with(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path)) == []


def test_a_row_that_is_dropped_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "persons.csv"
    rows = ("a,0,0,0,1,1,,,,1,", "a,0,5,0,1,1,,,,,1", "a,0,9,0,1,1,,,,0,0")
    path.write_text("\n".join([",".join((*COLUMNS, "drop", "blind")), *rows]) + "\n")
    assert [(person.box[0], person.is_blind) for person in read_persons(path)] == [(5, True), (9, False)]
    path.write_text("\n".join([",".join((*COLUMNS, "drop", "blind")), rows[0]]) + "\n")
    with pytest.raises(UserError, match="drop is 1 in all of its rows"):
        read_persons(path)


def with_names(folder: Path, *rows: str) -> Path:
    path = folder / "persons.csv"
    path.write_text("\n".join([",".join((*COLUMNS, "person")), *rows]) + "\n")
    return path


def test_rows_with_one_name_are_one_person_at_several_moments(tmp_path: Path) -> None:
    rows = ("a,1,0,0,5,5,20-30,F,9,Ann", "a,2,9,0,5,5,,,,Ann", "b,1,0,0,5,5,,,,Ann", "a,1,50,0,5,5,,,,")
    first, *others = read_persons(with_names(tmp_path, *rows))
    assert [(box.time_s, box.box[0], box.line) for box in first.boxes] == [(1, 0, 2), (2, 9, 3)]
    assert (first.age, first.gender, first.face_px) == (25, "F", 9)
    assert [(person.video, len(person.boxes)) for person in others] == [("b", 1), ("a", 1)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,2,0,0,5,5,,M,,Ann", "line 3: the gender is another one than in line 2"),
        ("a,1,9,0,5,5,,,,Ann", "line 3: the person of line 2 has another box at this moment"),
    ],
)
def test_rows_of_one_person_that_contradict_each_other_are_refused(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_persons(with_names(tmp_path, "a,1,0,0,5,5,20-30,F,9,Ann", row))


def test_a_row_takes_the_place_of_the_one_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "persons.csv"
    first: dict[str, str] = dict(zip(COLUMNS, ("a", "1", "0", "0", "5", "5", "20-30", "F", "9"), strict=True))
    put_row(path, first)
    put_row(path, first | {"bb_xmin": "40"})
    put_row(path, first | {"time_s": "2", "note": "moved"}, instead_of=first)
    assert [(row["time_s"], row["bb_xmin"], row["note"]) for row in read_rows(path)] == [
        ("2", "0", "moved"),
        ("1", "40", ""),
    ]
    assert [file.name for file in path.parent.iterdir()] == ["persons.csv"]


def test_a_list_without_persons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row below its header"):
        read_persons(write(tmp_path))


def test_the_list_of_the_clips_has_every_person_once() -> None:
    persons = read_persons(LIST)
    assert len({(person.video, person.time_s, person.box) for person in persons}) == len(persons)
    assert {person.gender for person in persons} == {"M", "F", None}
    assert all(isnan(person.age_low) or person.age_high - person.age_low >= 4 for person in persons)


def test_rows_with_more_cells_than_the_header_are_no_other_labels(tmp_path: Path) -> None:
    """Of such rows pandas would make an index of the first cells, and each value would stand below another name."""
    path = write(tmp_path, "a.mp4,1.5,10,20,30,40,20,35,F,48,")
    with pytest.raises(UserError, match="rows with more cells than its header; put cells"):
        read_persons(path)
    path = write(tmp_path, "a.mp4,1.5,10,20,30,40,20,F,48", "a.mp4,2.5,10,20,30,40,20,35,F,48")
    with pytest.raises(UserError, match="line 3"):
        read_persons(path)
    assert len(read_persons(write(tmp_path, "a.mp4,1.5,10,20,30,40,20,F,48,"))) == 1  # an empty cell at the end


def test_the_same_person_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    row = "a.mp4,1.5,10,20,30,40,20,F,48"
    with pytest.raises(UserError, match="line 4: the person of line 2 is here again"):
        read_persons(write(tmp_path, row, "a.mp4,2.5,10,20,30,40,20,F,48", row))


def test_an_empty_file_and_a_folder_are_named_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError, match=r"empty\.csv is empty; name"):
        read_persons(tmp_path / "empty.csv")
    with pytest.raises(UserError, match="is a folder; name a table in it"):
        read_persons(tmp_path)
