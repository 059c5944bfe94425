"""The first sheet of a workbook: totals, charts, and counts per day, per hour and per line."""

from collections.abc import Mapping, Sequence
from typing import Any

import xlsxwriter

from pipeline.cores.groups import NEAREST_ADIENCE
from pipeline.exports.day_counts import DayCounts, total_of
from pipeline.exports.line_counts import LineCounts

GENDERS = ("Female", "Male", "Not known")
COLOURS = ("#D55E00", "#0072B2", "#A6A6A6")
"""Of female, male and not known. People with any colour vision can tell them apart (Okabe and Ito, 2008)."""
TEXT, WHOLE, TENTH = {"indent": 1}, {"num_format": "0"}, {"num_format": "0.0"}
AGE_COLOUR = "#009E73"
AGE_GROUPS = (*(group.name for group in NEAREST_ADIENCE), "No age")
DAY_HEADERS = ("Day", "People", *GENDERS, "Median age", *AGE_GROUPS)
CHART_ROW, CHART_ROWS = 8, 17
WIDTH_PX, HEIGHT_PX, GAP_PX = 394, 310, 8
NOTE = "Gender and age are estimates from faces, and can be wrong. Where too little was seen, they are left open."


def write_summary(
    book: xlsxwriter.Workbook,
    sheet: Any,
    days: Mapping[str, DayCounts],
    lines: LineCounts,
    num_videos: int,
    zone: str,
) -> None:
    """Write the summary. days: by the name of the day, in order."""
    title = book.add_format({"bold": True, "font_size": 16})
    quiet = book.add_format({"font_color": "#595959"})
    tables = _Tables(book, sheet)
    total = total_of(list(days.values()))
    sheet.set_column(0, 0, 13)
    sheet.set_column(1, len(DAY_HEADERS) - 1, 10.5)
    sheet.hide_gridlines(2)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.write_string(0, 0, "People per day", title)
    sheet.write_string(1, 0, NOTE, quiet)
    sheet.write_string(2, 0, f"Days and hours are those of the recordings, in the time zone {zone}.", quiet)
    facts = (("Videos", num_videos), ("People", total.num_people), ("Median age", total.median_age))
    for row, (name, value) in enumerate(facts, start=4):
        tables.line(row, [name, value])

    row = CHART_ROW + CHART_ROWS
    first_day = row + 1
    tables.header(row, DAY_HEADERS)
    for row, (day, counts) in enumerate(days.items(), start=first_day):
        tables.line(row, _day(day, counts))
    last_day = total_row = first_day + len(days) - 1
    if len(days) != 1:
        total_row = last_day + 1
        tables.line(total_row, _day("All", total), bold=True)

    first_hour = total_row + 3
    hours = [hour for hour, by_gender in enumerate(total.by_hour) if sum(by_gender)]
    shown = range(min(hours, default=0), max(hours, default=-1) + 1)
    if shown:
        tables.header(first_hour - 1, ("Hour", "People", *GENDERS))
    for row, hour in enumerate(shown, start=first_hour):
        by_gender = total.by_hour[hour]
        tables.line(row, [f"{hour:02d}:00", sum(by_gender), *by_gender])
    row = first_hour + len(shown) + 1
    _write_lines(tables, row if shown else first_hour - 1, lines)

    if days:
        by_day = _chart(book, "People per day")
        by_day.set_x_axis({"num_font": {"rotation": -45}})
        _add_genders(by_day, first_day, last_day)
        _place(sheet, 0, by_day)
        _place(sheet, 1, _age_chart(book, total_row, first_day - 1))
    if shown:
        by_hour = _chart(book, "People per hour of first appearance")
        by_hour.set_x_axis({"num_font": {"rotation": -45}})
        _add_genders(by_hour, first_hour, first_hour + len(shown) - 1)
        _place(sheet, 2, by_hour)
    sheet.activate()


def header_formats(book: xlsxwriter.Workbook) -> tuple[Any, Any]:
    """Return the formats of headers above text and above numbers."""
    look = {"bold": True, "bottom": 1, "bg_color": "#EAF1F8"}
    return book.add_format({**look, "indent": 1}), book.add_format({**look, "align": "right"})


class _Tables:
    """Writes headers and lines of tables. Rows must come in order, because they are written as they come."""

    def __init__(self, book: xlsxwriter.Workbook, sheet: Any) -> None:
        self._sheet = sheet
        self._header, self._number_header = header_formats(book)
        self._looks = [
            [book.add_format({"bold": bold, "top": int(bold), **look}) for look in (TEXT, WHOLE, TENTH)]
            for bold in (False, True)
        ]

    def header(self, row: int, names: Sequence[str], num_texts: int = 1) -> None:
        for column, name in enumerate(names):
            self._sheet.write_string(row, column, name, self._header if column < num_texts else self._number_header)

    def line(self, row: int, cells: Sequence[str | float | None], *, bold: bool = False) -> None:
        for column, cell in enumerate(cells):
            text, whole, tenth = self._looks[bold]
            look = text if isinstance(cell, str) else tenth if isinstance(cell, float) else whole
            if isinstance(cell, str):
                self._sheet.write_string(row, column, cell, look)
            elif cell is None:
                self._sheet.write_blank(row, column, None, look)
            else:
                self._sheet.write_number(row, column, cell, look)


def _day(name: str, counts: DayCounts) -> list[str | float | None]:
    return [name, counts.num_people, *counts.by_gender, counts.median_age, *counts.by_age_group]


def _write_lines(tables: _Tables, row: int, lines: LineCounts) -> None:
    names = lines.names()
    if names:
        tables.header(row, ("Line or zone", "Kind", "In", "Out", "Visits", "Median s"), num_texts=2)
    for number, (kind, name) in enumerate(names, start=row + 1):
        visits = len(lines.visits[kind, name]) if kind == "zone" else None
        tables.line(number, [name, kind, *lines.crossed[kind, name], visits, lines.median_visit_s((kind, name))])


def _place(sheet: Any, position: int, chart: Any) -> None:
    """Put a chart into the row of charts. position: from 0."""
    sheet.insert_chart(CHART_ROW, 0, chart, {"x_offset": position * (WIDTH_PX + GAP_PX)})


def _chart(book: xlsxwriter.Workbook, title: str) -> Any:
    chart: Any = book.add_chart({"type": "column", "subtype": "stacked"})
    chart.set_title({"name": title, "name_font": {"size": 12}, "overlay": False})
    chart.set_size({"width": WIDTH_PX, "height": HEIGHT_PX})
    chart.set_legend({"position": "bottom"})
    chart.set_y_axis({"major_gridlines": {"visible": True, "line": {"color": "#D9D9D9"}}, "min": 0, "num_format": "0"})
    return chart


def _add_genders(chart: Any, first_row: int, last_row: int) -> None:
    for number, (gender, colour) in enumerate(zip(GENDERS, COLOURS, strict=True)):
        column = 2 + number
        chart.add_series(
            {
                "name": gender,
                "categories": ["Summary", first_row, 0, last_row, 0],
                "values": ["Summary", first_row, column, last_row, column],
                "fill": {"color": colour},
                "gap": 60,
            }
        )


def _age_chart(book: xlsxwriter.Workbook, row: int, header_row: int) -> Any:
    chart = _chart(book, "Age groups, all days")
    first, last = len(DAY_HEADERS) - len(AGE_GROUPS), len(DAY_HEADERS) - 1
    chart.add_series(
        {
            "name": "People",
            "categories": ["Summary", header_row, first, header_row, last],
            "values": ["Summary", row, first, row, last],
            "fill": {"color": AGE_COLOUR},
            "gap": 60,
        }
    )
    chart.set_legend({"none": True})
    return chart
