"""A workbook for Excel: a sheet per day with a line per person, and a summary with charts.

Rows are written as they come (constant_memory). Cells hold text, numbers, dates and times, never formulas.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from heapq import heappop, heappush
from typing import Any

import xlsxwriter

from pipeline.exports.clock import recorded_time
from pipeline.exports.day_counts import DayCounts
from pipeline.exports.line_counts import LineCounts
from pipeline.exports.people import FinishedVideo, ListedPerson, People
from pipeline.exports.workbook_summary import header_formats, write_summary
from pipeline.storage.store import Store

MAX_ROWS = 1_048_576
"""The rows of a sheet in Excel."""
MAX_DAY_SHEETS = 366
"""The most days that get a sheet each. With more, a sheet holds a month."""
MAX_TEXT = 1000
"""The most characters in a cell. Excel takes 32,767."""
NO_DATE = "No date"
MADE_AT = datetime(2000, 1, 1)
"""A fixed date in the properties of the file, so that the same output gives the same bytes."""
COLUMNS = (
    ("ID", 14),
    ("Date", 11),
    ("Time", 9),
    ("Gender", 9),
    ("Age", 6),
    ("Total", 7),
    ("Age from", 9),
    ("Age to", 8),
    ("Until", 9),
    ("Seconds in picture", 17),
    ("File", 32),
    ("Time in file", 12),
    ("Why no estimate", 44),
)
"""Headers and widths. The first six are the columns that a shop's list of visitors has."""
GENDERS = {"F": "Female", "M": "Male"}


@dataclass(frozen=True, slots=True)
class Visit:
    """A person of a video. at, until: first and last time of day in the zone of the workbook, None if not known."""

    person: ListedPerson
    at: datetime | None
    until: datetime | None

    def __lt__(self, other: "Visit") -> bool:
        """Whether it comes before another visit. Both have a time of day."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[Any, ...]:
        return self.at and self.at.timestamp(), self.person.video.name, self.person.row["person_id"]


def write_workbook(
    store: Store, name: str, people: People, zone: tzinfo, lines: LineCounts, max_rows: int = MAX_ROWS
) -> None:
    """Write the workbook of an output. max_rows: of a sheet, with its header. More rows go on in a next sheet."""
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with store.writing(name) as file, xlsxwriter.Workbook(file, options) as book:
        book.set_properties({"title": "Rollcall", "created": MADE_AT})
        summary = book.add_worksheet("Summary")
        sheets = _DaySheets(book, max_rows)
        days: dict[str, DayCounts] = {}
        videos = list(people.videos())
        by_day = _videos_by_day(videos, zone)
        per_month = len(by_day) > MAX_DAY_SHEETS
        for day in sorted(by_day):
            counts = DayCounts()
            title = f"{day:%Y-%m}" if per_month else day.isoformat()
            sheets.write(title, _visits_of_day(people, by_day[day], zone, day), counts, set())
            if counts.num_people:
                days[day.isoformat()] = counts
        undated, seen = DayCounts(), set[str]()
        for _, persons in people.of_each([video for video in videos if video.recorded_at is None]):
            sheets.write(NO_DATE, (Visit(person, None, None) for person in persons), undated, seen)
        if undated.num_people:
            days[NO_DATE] = undated
        write_summary(book, summary, days, lines, len(videos), str(zone))


def _videos_by_day(videos: Sequence[FinishedVideo], zone: tzinfo) -> dict[date, list[FinishedVideo]]:
    """Return the videos that show a part of each day."""
    by_day: dict[date, list[FinishedVideo]] = defaultdict(list)
    for video in videos:
        first = recorded_time(video.recorded_at, 0.0, zone)
        last = recorded_time(video.recorded_at, video.duration_s, zone)
        day = first.date() if first else None
        while day and last and day <= last.date():
            by_day[day].append(video)
            day += timedelta(days=1)
    return by_day


def _visits_of_day(people: People, videos: Sequence[FinishedVideo], zone: tzinfo, day: date) -> Iterator[Visit]:
    """Yield the visits of a day in order of time. Memory holds the people of videos that run at the same time."""
    begun = sorted(videos, key=lambda video: (video.recorded_at, video.video_id))
    following = people.of_each(begun)
    waiting: list[Visit] = []
    for video, persons in following:
        while waiting and waiting[0].at and video.recorded_at and waiting[0].at < video.recorded_at:
            yield heappop(waiting)
        for person in persons:
            at, until = (recorded_time(video.recorded_at, person.row[name], zone) for name in ("start_s", "end_s"))
            if at and at.date() == day:
                heappush(waiting, Visit(person, at, until))
    while waiting:
        yield heappop(waiting)


class _DaySheets:
    """The sheets with a line per person. A full sheet goes on in a next one."""

    def __init__(self, book: xlsxwriter.Workbook, max_rows: int) -> None:
        self._book, self._max_rows = book, max_rows
        self._header, self._number_header = header_formats(book)
        self._text = book.add_format({"indent": 1})
        self._date = book.add_format({"num_format": "yyyy-mm-dd"})
        self._time = book.add_format({"num_format": "hh:mm:ss"})
        self._long_time = book.add_format({"num_format": "[h]:mm:ss.0"})
        self._whole = book.add_format({"num_format": "0"})
        self._tenth = book.add_format({"num_format": "0.0"})
        self._sheet: Any = None
        self._title, self._number, self._row = "", 1, 0

    def write(self, title: str, visits: Iterable[Visit], counts: DayCounts, seen: set[str]) -> None:
        """Write visits below those that the sheet has already, and count each person that is not in `seen`."""
        for visit in visits:
            if title != self._title:
                self._title, self._number = title, 1
                self._begin(title)
            if visit.person.id not in seen:
                seen.add(visit.person.id)
                counts.add(visit.person, visit.at.hour if visit.at else None)
            if self._row >= self._max_rows:
                self._number += 1
                self._begin(f"{title} ({self._number})")
            self._write(visit, counts.num_people)

    def _begin(self, name: str) -> None:
        self._sheet = sheet = self._book.add_worksheet(name)
        for column, (_, width) in enumerate(COLUMNS):
            sheet.set_column(column, column, width)
        for column, (header, _) in enumerate(COLUMNS):
            is_text = header in ("ID", "Gender", "File", "Why no estimate")
            sheet.write_string(0, column, header, self._header if is_text else self._number_header)
        sheet.freeze_panes(1, 1)
        sheet.repeat_rows(0)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer("&L&A&RPage &P of &N")
        self._row = 1

    def _write(self, visit: Visit, total: int) -> None:
        sheet, row, person = self._sheet, self._row, visit.person
        stored, video = person.row, person.video
        sheet.write_string(row, 0, _cell(person.id), self._text)
        if visit.at is not None:
            sheet.write_datetime(row, 1, visit.at.date(), self._date)
            sheet.write_datetime(row, 2, _time_of_day(visit.at), self._time)
        if stored["gender"] in GENDERS:
            sheet.write_string(row, 3, GENDERS[stored["gender"]], self._text)
        if stored["age"] is not None:
            sheet.write_number(row, 4, stored["age"], self._whole)
        sheet.write_number(row, 5, total)
        if stored["age_low"] is not None:
            sheet.write_number(row, 6, stored["age_low"], self._whole)
            sheet.write_number(row, 7, stored["age_high"], self._whole)
        if visit.until is not None:
            sheet.write_datetime(row, 8, _time_of_day(visit.until), self._time)
        sheet.write_number(row, 9, round(person.seconds, 1), self._tenth)
        sheet.write_string(row, 10, _cell(video.name), self._text)
        sheet.write_number(row, 11, stored["start_s"] / 86_400, self._long_time)
        sheet.write_string(row, 12, person.why_not, self._text)
        sheet.autofilter(0, 0, row, len(COLUMNS) - 1)
        self._row += 1


def _time_of_day(at: datetime) -> time:
    return at.time().replace(microsecond=0)


def _cell(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
