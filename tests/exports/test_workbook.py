"""Tests of the workbook, read by openpyxl."""

import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest

from jobs.shared.exporting_pictures import FAILED
from pipeline.exports import workbook
from pipeline.exports.line_counts import LineCounts, count_lines
from pipeline.exports.people import FinishedVideo, ListedPerson, People
from pipeline.rows import DATASETS
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from tests.builders import Film, Walker
from tests.exports.outputs import FILM, publish, run_export, set_columns

SIX = ["ID", "Date", "Time", "Gender", "Age", "Total"]


def exported(place: str, *options: str) -> openpyxl.Workbook:
    assert run_export(place, "xlsx", *options).exit_code == 0
    return openpyxl.load_workbook(Path(place, "export/xlsx/persons.xlsx"))


def rows(sheet: Any) -> list[dict[str, Any]]:
    header, *lines = sheet.iter_rows(values_only=True)
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_a_day_is_a_sheet_and_a_person_a_line(tmp_path: Path) -> None:
    """All times are those of the recording, two years and more ago, whatever this machine's clock says."""
    late = Film(8.0, [Walker(1, 4, x=20, look=1, age=30), Walker(6, 8, x=400, look=2)])
    starts = {
        "b.mp4": datetime(2024, 5, 1, 21, 59, 55, tzinfo=UTC),
        "a.mp4": datetime(2024, 5, 1, 8, 0, 0, tzinfo=UTC),
    }
    place = publish(str(tmp_path), {"b.mp4": late, "a.mp4": FILM, "c.mp4": FILM}, recorded=starts)
    book = exported(place, "--timezone", "Europe/Berlin")
    assert book.sheetnames == ["Summary", "2024-05-01", "2024-05-02", "No date"]
    first, second, undated = (rows(book[name]) for name in book.sheetnames[1:])
    assert list(first[0])[:6] == SIX
    midnight = datetime(2024, 5, 1)
    assert [(row["Date"], row["Time"], row["Total"]) for row in first] == [
        (midnight, time(10, 0, 0), 1),
        (midnight, time(10, 0, 0), 2),
        (midnight, time(23, 59, 56), 3),
    ]
    assert (first[0]["Gender"], first[0]["Age"], first[1]["Gender"], first[1]["Age"]) == ("Female", 30, None, None)
    assert [(row["Date"].date(), row["Time"], row["Total"]) for row in second] == [(date(2024, 5, 2), time(0, 0, 1), 1)]
    assert [(row["Date"], row["Time"], row["Total"]) for row in undated] == [(None, None, 1), (None, None, 2)]
    assert len({row["ID"] for sheet in (first, second, undated) for row in sheet}) == 6
    assert undated[0]["Time in file"] == timedelta(0)


def test_people_of_two_cameras_stand_in_order_of_time(tmp_path: Path) -> None:
    start = datetime(2024, 5, 1, 8, tzinfo=UTC)
    film = Film(9.0, [Walker(0, 2, x=20, look=1), Walker(4, 6, x=300, look=2)])
    starts = {"a.mp4": start, "b.mp4": start + timedelta(seconds=2), "c.mp4": start + timedelta(seconds=30)}
    day = rows(exported(publish(str(tmp_path), dict.fromkeys(starts, film), recorded=starts))["2024-05-01"])
    assert [row["File"] for row in day] == ["a.mp4", "b.mp4", "a.mp4", "b.mp4", "c.mp4", "c.mp4"]
    assert [row["Total"] for row in day] == [1, 2, 3, 4, 5, 6]


def test_the_summary_adds_up(tmp_path: Path) -> None:
    day = datetime(2024, 5, 1, 8, 30, tzinfo=UTC)
    place = publish(
        str(tmp_path),
        {"a.mp4": FILM, "b.mp4": FILM},
        recorded={"a.mp4": day, "b.mp4": day + timedelta(days=1, hours=2)},
    )
    sheet: Any = exported(place)["Summary"]
    lines = {line[0]: line[1:] for line in sheet.iter_rows(values_only=True) if line[0]}
    assert lines["Day"][:5] == ("People", "Female", "Male", "Not known", "Median age")
    assert lines["2024-05-01"][:5] == (2, 1, 0, 1, 30)
    assert lines["All"][:5] == (4, 2, 0, 2, 30)
    assert dict(zip(lines["Day"][5:], lines["All"][5:], strict=True)) == {
        "0–2": 0, "4–6": 0, "8–12": 0, "15–20": 0, "25–32": 2, "38–43": 0, "48–53": 0, "60+": 0, "No age": 2
    }  # fmt: skip
    assert [lines[f"{hour:02d}:00"][0] for hour in (8, 9, 10)] == [2, 0, 2]
    assert len(sheet._charts) == 3


def test_lines_and_zones_are_counted_in_the_summary(tmp_path: Path) -> None:
    film = Film(6.0, [Walker(0, 6, x=100, speed=40, look=1)])
    drawn = [
        "crossings.lines.door=[[0.3, 1], [0.3, 0]]",
        "crossings.zones.desk=[[0.4, 0], [0.5, 0], [0.5, 1], [0.4, 1]]",
    ]
    place = publish(str(tmp_path), {"a.mp4": film}, *drawn)
    lines = {line[0]: line[1:6] for line in exported(place)["Summary"].iter_rows(values_only=True) if line[0]}
    assert lines["door"] == ("line", 1, 0, None, None)
    assert lines["desk"] == ("zone", 1, 1, 1, pytest.approx(1.6, abs=0.1))


def test_rows_beyond_the_limit_of_a_sheet_go_on_in_the_next(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {f"{number}.mp4": FILM for number in range(3)})
    index = OutputIndex.open(place)
    workbook.write_workbook(index.store, "w.xlsx", People(index), UTC, count_lines(index, {}), max_rows=3)
    book = openpyxl.load_workbook(Path(place, "w.xlsx"))
    assert book.sheetnames == ["Summary", "No date", "No date (2)", "No date (3)"]
    assert [row["Total"] for name in book.sheetnames[1:] for row in rows(book[name])] == [1, 2, 3, 4, 5, 6]


def test_many_days_share_sheets_by_month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_DAY_SHEETS", 2)
    days = {f"{day}.mp4": datetime(2024, 5, day, 12, tzinfo=UTC) for day in (1, 2, 30)} | {
        "june.mp4": datetime(2024, 6, 1, tzinfo=UTC)
    }
    book = exported(publish(str(tmp_path), dict.fromkeys(days, FILM), recorded=days))
    assert book.sheetnames == ["Summary", "2024-05", "2024-06"]
    assert [row["Total"] for row in rows(book["2024-05"])] == [1, 2] * 3


def test_somebody_in_two_files_of_a_sequence_counts_once(tmp_path: Path) -> None:
    start = datetime(2024, 5, 1, 8, tzinfo=UTC)
    films = {"1.mp4": Film(2.0, [Walker(0, 2, x=20)]), "2.mp4": Film(2.0, [Walker(0, 2, x=80)])}
    place = publish(str(tmp_path), films, recorded={"1.mp4": start, "2.mp4": start + timedelta(seconds=2)})
    index = OutputIndex.open(place)
    for position, uri in enumerate(sorted(index.sources), start=1):
        index.set_source(uri, sequence="=shop", position=position)
    index.save_sources()
    members = [
        {
            "sequence": "=shop",
            "position": row["position"],
            "video_id": row["video_id"],
            "person_id": 1,
            "sequence_person_id": 1,
        }
        for row in index.sources.values()
    ]
    tables.write_rows(Store(place), "sequences/shop.parquet", DATASETS["sequences"], members)
    day = rows(exported(place)["2024-05-01"])
    assert [(row["ID"], row["Total"]) for row in day] == [("=shop-1", 1), ("=shop-1", 1)]


def test_no_cell_is_a_formula_or_a_link(tmp_path: Path) -> None:
    names = ['=HYPERLINK("evil").mp4', "+1.mp4", "mailto:evil.mp4", "a" * 90 + "[]:*?.mp4"]
    place = publish(str(tmp_path), dict.fromkeys(names, Film(1.0, [Walker(0, 1, x=20)])))
    book = exported(place)
    assert sorted(row["File"] for row in rows(book["No date"])) == sorted(names)
    with zipfile.ZipFile(Path(place, "export/xlsx/persons.xlsx")) as parts:
        sheets = [parts.read(name).decode() for name in parts.namelist() if "worksheets/sheet" in name]
    assert not any("<f>" in sheet or "<hyperlink" in sheet for sheet in sheets)


def test_a_damaged_table_leaves_out_one_video_and_says_so(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"a.mp4": FILM, "b.mp4": FILM})
    video_id = OutputIndex.open(place).sources["/in/a.mp4"]["video_id"]
    Path(place, f"persons/{video_id}.parquet").write_bytes(b"broken")
    for kind in ("xlsx", "csv"):
        result = run_export(place, kind)
        assert result.exit_code == FAILED
        assert f"left out: {OutputIndex.open(place).videos[video_id]['uri']}: what is stored of it" in result.stdout
    book = openpyxl.load_workbook(Path(place, "export/xlsx/persons.xlsx"))
    assert {row["File"] for row in rows(book["No date"])} == {"b.mp4"}


def test_an_object_store_gets_the_same_bytes(bucket: str, tmp_path: Path) -> None:
    stores = [Store(publish(place, {"a.mp4": FILM})) for place in (f"{bucket}/out", str(tmp_path))]
    for store in stores:
        assert run_export(store.uri, "xlsx").exit_code == 0
    assert len({store.read("export/xlsx/persons.xlsx") for store in stores}) == 1


def test_the_same_output_gives_the_same_bytes(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"a.mp4": FILM})
    exported(place)
    path = Path(place, "export/xlsx/persons.xlsx")
    before = path.read_bytes()
    exported(place)
    assert path.read_bytes() == before


def test_an_output_without_people_is_a_workbook(tmp_path: Path) -> None:
    assert exported(publish(str(tmp_path), {"a.mp4": Film(1.0, [])})).sheetnames == ["Summary"]


def test_the_hour_that_a_zone_skips_lies_in_no_visit(tmp_path: Path) -> None:
    """In Berlin, 2 a.m. follows 1:59 as 3 a.m."""
    place = publish(str(tmp_path), {"a.mp4": FILM}, recorded={"a.mp4": datetime(2024, 3, 31, 0, 59, 58, tzinfo=UTC)})
    (video_id,) = OutputIndex.open(place).done()
    set_columns(place, "persons", video_id, [{"start_s": 0.0, "end_s": 3.0}])
    index = OutputIndex.open(place)
    workbook.write_workbook(index.store, "w.xlsx", People(index), ZoneInfo("Europe/Berlin"), count_lines(index, {}))
    first = rows(openpyxl.load_workbook(Path(place, "w.xlsx"))["2024-03-31"])[0]
    assert (first["Time"], first["Until"]) == (time(1, 59, 58), time(3, 0, 1))


class ManyPeople(People):
    """A thousand persons in each of some videos, a minute apart."""

    def __init__(self, num_videos: int) -> None:
        self.left_out = {}
        self._num_videos = num_videos

    def videos(self) -> Iterator[FinishedVideo]:
        for number in range(self._num_videos):
            yield FinishedVideo(
                video_id=f"{number:020x}",
                short_id=f"{number:06x}",
                files=(f"{number}.mp4",),
                recorded_at=datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=number),
                duration_s=60.0,
                sequence=None,
            )

    def of_each(self, videos: Sequence[FinishedVideo]) -> Iterator[tuple[FinishedVideo, list[ListedPerson]]]:
        estimates = {"age": 30.0, "age_low": 20.0, "age_high": 40.0, "gender": "F", "female_prob": 0.9}
        reasons = {"age_why_not": None, "gender_why_not": None}
        for video in videos:
            yield (
                video,
                [
                    ListedPerson(
                        video=video,
                        row={"person_id": number, "start_s": number / 20, "end_s": number / 20 + 3}
                        | estimates
                        | reasons,
                        spans=[(0.0, 3.0)],
                        sequence_person_id=None,
                    )
                    for number in range(1, 1001)
                ],
            )


@pytest.mark.parametrize(
    ("num_videos", "max_rows"), [(3, 2001), pytest.param(1100, workbook.MAX_ROWS, marks=pytest.mark.slow)]
)
def test_a_day_of_more_people_than_a_sheet_has_rows_is_whole(num_videos: int, max_rows: int, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    workbook.write_workbook(store, "w.xlsx", ManyPeople(num_videos), UTC, LineCounts(), max_rows)
    with zipfile.ZipFile(tmp_path / "w.xlsx") as parts:
        counts = [parts.read(f"xl/worksheets/sheet{number}.xml").count(b"<row ") for number in (2, 3)]
    assert counts == [max_rows, num_videos * 1000 - (max_rows - 1) + 1]
