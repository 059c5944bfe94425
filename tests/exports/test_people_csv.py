"""Tests of the CSV with a line per person."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.exports.clock import video_time
from tests.builders import Film, Walker
from tests.exports.outputs import FILM, publish, run_export


def lines(place: str) -> list[dict[str, str]]:
    text = Path(place, "export/csv/persons.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(text.splitlines()))


def test_every_person_of_every_file_is_a_line(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"b.mp4": FILM, "a/c.mp4": FILM})
    assert run_export(place, "csv").exit_code == 0
    table = lines(place)
    assert [(row["file"], row["person_id"]) for row in table] == [
        ("a/c.mp4", "1"),
        ("a/c.mp4", "2"),
        ("b.mp4", "1"),
        ("b.mp4", "2"),
    ]
    assert len({row["id"] for row in table}) == 4
    first = table[0]
    assert (first["from"], first["to"], first["seconds_in_picture"]) == ("0:00:00.0", "0:00:04.0", "4.0")
    assert (first["age"], first["gender"], first["gender_prob"]) == ("30.0", "F", "0.921")
    assert table[1]["why_not"] == "age: no face judged; gender: no face judged"
    assert (table[1]["age"], table[1]["gender"], table[1]["gender_prob"]) == ("", "N", "")


def test_times_of_day_come_from_the_recording_and_the_position_in_it(tmp_path: Path) -> None:
    """The clock of the machine plays no part: the recording is years old."""
    film = Film(6.0, [Walker(0, 2, x=20, look=1), Walker(3, 5, x=300, look=2)])
    start = datetime(2019, 3, 30, 22, 59, 58, tzinfo=UTC)
    place = publish(str(tmp_path), {"v.mp4": film, "w.mp4": film}, recorded={"v.mp4": start})
    run_export(place, "csv", "--timezone", "Europe/Berlin")
    stated = [(row["date"], row["time"]) for row in lines(place)]
    assert stated == [("2019-03-30", "23:59:58"), ("2019-03-31", "00:00:01"), ("", ""), ("", "")]


def test_excel_reads_it_as_utf_8_and_no_name_becomes_a_formula(tmp_path: Path) -> None:
    names = ['=HYPERLINK("evil").mp4', "@sum.mp4", "+1.mp4", "-1.mp4", 'Tür, "Süd".mp4']
    place = publish(str(tmp_path), dict.fromkeys(names, Film(1.0, [Walker(0, 1, x=20)])))
    run_export(place, "csv")
    path = Path(place, "export/csv/persons.csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,")
    files = pd.read_csv(path)["file"].tolist()
    assert sorted(files) == sorted(f"'{name}" if name[0] in "=+-@" else name for name in names)


def test_seconds_never_reach_60() -> None:
    assert [video_time(s) for s in (0, 59.94, 59.96, 3599.97, 36000.04)] == [
        "0:00:00.0",
        "0:00:59.9",
        "0:01:00.0",
        "1:00:00.0",
        "10:00:00.0",
    ]


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"v.mp4": FILM})
    for arguments in (
        ("csv", "--ids", "tracklet"),
        ("mot", "--timezone", "Europe/Berlin"),
        ("csv", "--timezone", "Oz"),
    ):
        with pytest.raises(UserError, match=arguments[1]):
            run_export(place, *arguments)
