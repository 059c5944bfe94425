"""The figures of each video of a report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.cores.groups import hidden_counts
from pipeline.report.inputs import ReportOptions, ReportTables, Row, is_picture, name_of
from pipeline.report.people import People
from pipeline.report.summaries import Shown
from pipeline.report.values import integers, places, reals
from pipeline.text import printable


@dataclass(frozen=True, slots=True)
class VideoFigures:
    """A finished video.

    name: of its file, or its id. others: number of further files with the same content.
    recorded_at: in the zone of the report, None if unknown.
    num_persons: None if it is hidden.
    num_ages, num_women, num_men: persons with an age, and of each gender. None if hidden.
    work_s, cost: of all runs, None if unknown.
    shots: start of each shot, s.
    persons: a list per person, see `_persons`. None if the page has no details of this video.
    """

    video_id: str
    name: str
    others: int
    is_picture: bool
    duration_s: float
    width: int | None
    height: int | None
    num_shots: int
    recorded_at: datetime | None
    warning: str | None
    num_persons: Shown
    num_ages: Shown
    num_women: Shown
    num_men: Shown
    work_s: float | None
    cost: float | None
    shots: Sequence[float]
    persons: Sequence[Sequence[Any]] | None


def video_figures(
    given: ReportTables,
    options: ReportOptions,
    videos: Sequence[Row],
    people: People,
    starts: Sequence[datetime | None],
    index_of: Mapping[str, int],
    max_persons: int,
) -> list[VideoFigures]:
    shots = _shots_by_video(given.tables["shots"], index_of)
    spans = _spans_by_person(given.tables["tracklets"], people, index_of)
    spent = _spent_by_video(given.runs)
    counts = np.bincount(people.video, minlength=len(videos)).astype(np.int64)
    firsts = np.concatenate([[0], np.cumsum(counts)]).tolist()
    hidden = hidden_counts(counts, options.min_group if options.summary_only else 1)
    figures = []
    for place, row in enumerate(videos):
        members = slice(firsts[place], firsts[place + 1])
        has_details = not options.summary_only and firsts[place + 1] <= max_persons
        genders = np.bincount(people.gender[members], minlength=3).tolist()
        num_ages = int((~np.isnan(people.age[members])).sum())
        is_hidden = bool(hidden[place])
        start, names = starts[place], given.names.get(row["video_id"]) or ()
        work_s, cost = spent.get(row["video_id"], (None, None))
        figures.append(
            VideoFigures(
                video_id=row["video_id"],
                name=name_of(given, row["video_id"]),
                others=max(len(names) - 1, 0),
                is_picture=is_picture(row),
                duration_s=row["duration_s"] or 0.0,
                width=row["width"],
                height=row["height"],
                num_shots=row["num_shots"] or 0,
                recorded_at=None if start is None else start.astimezone(options.zone),
                warning=row["warning"] and printable(row["warning"]),
                num_persons=None if is_hidden else int(counts[place]),
                num_ages=None if options.summary_only else num_ages,
                num_women=None if options.summary_only else genders[0],
                num_men=None if options.summary_only else genders[1],
                work_s=work_s,
                cost=cost,
                shots=shots.get(place, ()),
                persons=_persons(people, members, spans, given.pictures, row["video_id"]) if has_details else None,
            )
        )
    return figures


def _persons(
    people: People,
    members: slice,
    spans: Mapping[int, Sequence[float]],
    pictures: Mapping[tuple[str, int], str],
    video_id: str,
) -> list[list[Any]]:
    """Return a list per person: person_id, start_s, end_s, gender, age, age_low, age_high, num_faces, why there is no
    age, why there is no gender, starts and ends of the tracklets in turn, and the data URI of a picture if there is
    one."""
    columns = (people.person_id, people.start_s.round(2), people.end_s.round(2), people.gender)
    numbers = [column[members].tolist() for column in columns]
    ages = [
        [None if isnan(age) else age for age in column[members].tolist()]
        for column in (people.age, people.low, people.high)
    ]
    rest = [people.num_faces[members].tolist(), people.age_why_not[members], people.gender_why_not[members]]
    persons = []
    for place, row in enumerate(zip(*numbers, *ages, *rest, strict=True), start=members.start):
        picture = pictures.get((video_id, row[0]))
        persons.append([*row, spans.get(place, ()), *([picture] if picture else [])])
    return persons


def _shots_by_video(shots: pa.Table, index_of: Mapping[str, int]) -> dict[int, list[float]]:
    starts = defaultdict(list)
    for place, start_s in zip(
        places(shots, "video_id", index_of).tolist(), reals(shots, "start_s").round(2).tolist(), strict=True
    ):
        starts[place].append(start_s)
    return {place: sorted(values) for place, values in starts.items()}


def _spans_by_person(tracklets: pa.Table, people: People, index_of: Mapping[str, int]) -> dict[int, list[float]]:
    """Return starts and ends of the tracklets in turn, by row of `people`."""
    rows = people.rows_of(places(tracklets, "video_id", index_of), integers(tracklets, "person_id"))
    times = [reals(tracklets, name).round(2).tolist() for name in ("start_s", "end_s")]
    spans = defaultdict(list)
    for row, start_s, end_s in sorted(zip(rows.tolist(), *times, strict=True)):
        spans[row] += [start_s, end_s]
    return spans


def _spent_by_video(runs: pa.Table) -> dict[str, tuple[float, float | None]]:
    """Return the working time and the cost of each video in all runs."""
    spent: dict[str, tuple[float, float | None]] = {}
    for video_id, seconds, cost in zip(
        *(runs[name].to_pylist() for name in ("video_id", "seconds", "cost")), strict=True
    ):
        before_s, before = spent.get(video_id, (0.0, None))
        spent[video_id] = (before_s + (seconds or 0.0), before if cost is None else (before or 0.0) + cost)
    return spent
