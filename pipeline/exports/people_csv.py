"""A CSV with a line per person, for people and for Excel."""

import csv
import io
from collections.abc import Sequence
from datetime import tzinfo

from pipeline.exports.clock import recorded_time, video_time
from pipeline.exports.people import ListedPerson, People
from pipeline.storage.store import Store

COLUMNS = (
    "id",
    "file",
    "video_id",
    "person_id",
    "from",
    "to",
    "date",
    "time",
    "seconds_in_picture",
    "age",
    "age_low",
    "age_high",
    "gender",
    "gender_prob",
    "why_not",
)
BYTE_ORDER_MARK = "\ufeff"
"""Excel reads a CSV as UTF-8 only if it begins with this mark. Other readers pass over it."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so is a formula to a spreadsheet, or may become one."""


def write_people_csv(store: Store, name: str, people: People, zone: tzinfo) -> None:
    """Write a line for each person of each finished video."""
    with store.writing(name) as file:
        file.write(csv_lines([COLUMNS], BYTE_ORDER_MARK))
        for _, persons in people.of_each(list(people.videos())):
            file.write(csv_lines([_cells(person, zone) for person in persons]))


def plain_cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula. The names of files come from strangers."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _cells(person: ListedPerson, zone: tzinfo) -> tuple[object, ...]:
    row, video = person.row, person.video
    at = recorded_time(video.recorded_at, row["start_s"], zone)
    return (
        plain_cell(person.id),
        plain_cell(video.name),
        video.video_id,
        row["person_id"],
        video_time(row["start_s"]),
        video_time(row["end_s"]),
        at and at.date().isoformat(),
        at and at.strftime("%H:%M:%S"),
        f"{person.seconds:.1f}",
        row["age"],
        row["age_low"],
        row["age_high"],
        row["gender"],
        person.gender_prob,
        person.why_not,
    )


def csv_lines(rows: Sequence[tuple[object, ...]], before: str = "") -> bytes:
    """Return the bytes of rows as CSV, after the text `before`."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return f"{before}{text.getvalue()}".encode()
