"""The summaries of a report: people by age and gender over all videos, by day, and by hour of a day.

A person counts once a day, in the hour of the first appearance. Small groups are hidden (`cores.groups`): what is
hidden among all videos stays hidden in the days, and what is hidden in a day stays hidden in its hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.groups import AgeGroup, HiddenCells, group_indices, hidden_cells
from pipeline.cores.vote import Z_80
from pipeline.report.people import GENDERS, People, representatives

Shown = int | None
"""A count of people. None if it is hidden."""
NO_TIME = -1
HOURS = 24
ERF = np.frompyfunc(erf, 1, 1)
"""The error function. That of scipy takes a quarter of a second to import."""
SMALLEST_STD = 0.05
"""Years. The steps of an age are 0.1 year."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """People by gender and by age group.

    people: number of them.
    genders: by GENDERS.
    ages: by age group, and at the end those without an age.
    """

    people: Shown
    genders: Sequence[Shown]
    ages: Sequence[Shown]

    @property
    def women_share(self) -> float | None:
        """The share of women among those with a gender. None if a count is hidden or nobody has one."""
        women, men = self.genders[0], self.genders[1]
        return None if women is None or men is None or not women + men else women / (women + men)


@dataclass(frozen=True, slots=True)
class Overview:
    """The people of all videos.

    total: all of them.
    cells: number of people by age group (the last one: no age) and gender.
    expected: number of people by age group if each age is spread over its interval. None if hidden.
    """

    total: Breakdown
    cells: Sequence[Sequence[Shown]]
    expected: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Day:
    """The people of a day.

    date: None for the videos whose time of recording is unknown.
    num_videos: number of videos that began on this day.
    hours: the people of each hour in which somebody appeared. Empty without a date, or if the day is hidden.
    """

    date: date | None
    num_videos: int
    people: Breakdown
    hours: Sequence[tuple[int, Breakdown]]


def overview(people: People, groups: Sequence[AgeGroup], min_group: int) -> Overview:
    """Return the people of all videos by age and gender."""
    rows = representatives(people, np.arange(len(people)), np.zeros(len(people), np.int64))
    ages = _age_columns(people, groups)[rows]
    counts = np.zeros((len(groups) + 1, len(GENDERS)), np.int64)
    np.add.at(counts, (ages, people.gender[rows]), 1)
    hidden = hidden_cells(counts, min_group)
    total = Breakdown(
        None if hidden.total else len(rows),
        _shown(counts.sum(axis=0), hidden.columns),
        _shown(counts.sum(axis=1), hidden.rows),
    )
    cells = [_shown(line, hidden_line) for line, hidden_line in zip(counts, hidden.cells, strict=True)]
    spread = _spread(people.age[rows], people.low[rows], people.high[rows], groups)
    expected = [None if is_hidden else round(n, 1) for n, is_hidden in zip(spread, hidden.rows[:-1], strict=True)]
    return Overview(total, cells, expected)


def days(
    people: People,
    starts: Sequence[datetime | None],
    zone: tzinfo,
    groups: Sequence[AgeGroup],
    min_group: int,
    total: Breakdown,
) -> list[Day]:
    """Return the summary of each day, in order. The last one has no date if some videos have no time.

    starts: beginning of the recording of each video. zone: the time zone of days and hours.
    total: the people of all videos, whose hidden groups stay hidden.
    """
    local = [None if start is None else start.astimezone(zone) for start in starts]
    origin = min((start.date() for start in local if start is not None), default=date(1970, 1, 1))
    day_of, hour_of = _days_and_hours(people, local, origin)
    video_days = [NO_TIME if start is None else (start.date() - origin).days for start in local]
    numbers = sorted({*video_days, *day_of.tolist()} - {NO_TIME}) + [NO_TIME] * (NO_TIME in video_days)
    place_of = {number: place for place, number in enumerate(numbers)}
    rows = representatives(people, np.arange(len(people)), day_of)
    first_hour = _first_hours(people, rows, day_of, hour_of)
    ages, genders = _age_columns(people, groups)[rows], people.gender[rows]
    lines = np.array([place_of[day] for day in day_of[rows].tolist()], np.int64)
    by_age = _table(lines, ages, (len(numbers), len(groups) + 1))
    by_gender = _table(lines, genders, (len(numbers), len(GENDERS)))
    hidden_ages = hidden_cells(by_age, min_group, _hidden(total.ages))
    hidden_genders = hidden_cells(by_gender, min_group, _hidden(total.genders))
    result = []
    for line, number in enumerate(numbers):
        breakdown = _line(line, by_gender, by_age, hidden_genders, hidden_ages)
        here = lines == line
        has_hours = number != NO_TIME and breakdown.people is not None
        hours = _hours(first_hour[here], genders[here], ages[here], breakdown, min_group) if has_hours else ()
        when = None if number == NO_TIME else origin + timedelta(days=number)
        result.append(Day(when, video_days.count(number), breakdown, hours))
    return result


def _hours(
    hours: NDArray[np.int64],
    genders: NDArray[np.int64],
    ages: NDArray[np.int64],
    day: Breakdown,
    min_group: int,
) -> list[tuple[int, Breakdown]]:
    by_gender = _table(hours, genders, (HOURS, len(day.genders)))
    by_age = _table(hours, ages, (HOURS, len(day.ages)))
    hidden_genders = hidden_cells(by_gender, min_group, _hidden(day.genders))
    hidden_ages = hidden_cells(by_age, min_group, _hidden(day.ages))
    return [(hour, _line(hour, by_gender, by_age, hidden_genders, hidden_ages)) for hour in np.unique(hours).tolist()]


def _line(
    line: int,
    by_gender: NDArray[np.int64],
    by_age: NDArray[np.int64],
    hidden_genders: HiddenCells,
    hidden_ages: HiddenCells,
) -> Breakdown:
    """Return a line of the tables by gender and by age, whose sums are the same."""
    is_hidden = hidden_genders.rows[line] or hidden_genders.total
    return Breakdown(
        None if is_hidden else int(by_gender[line].sum()),
        _shown(by_gender[line], hidden_genders.cells[line]),
        _shown(by_age[line], hidden_ages.cells[line]),
    )


def _days_and_hours(
    people: People, local: Sequence[datetime | None], origin: date
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the day of each person's first appearance, counted from `origin`, and its hour: (N,) int64 each. The day
    is NO_TIME where it is unknown."""
    day_of, hour_of = np.full(len(people), NO_TIME), np.zeros(len(people), np.int64)
    for row, (video, start_s) in enumerate(zip(people.video.tolist(), people.start_s.tolist(), strict=True)):
        start = local[video]
        if start is not None:
            # The sum is in UTC: a clock that is put forward or back between the two times is then right.
            moment = (start.astimezone(UTC) + timedelta(seconds=start_s)).astimezone(start.tzinfo)
            day_of[row], hour_of[row] = (moment.date() - origin).days, moment.hour
    return day_of, hour_of


def _first_hours(
    people: People, rows: NDArray[np.int64], day_of: NDArray[np.int64], hour_of: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the hour in which the individual of each of `rows` appears first on that day: (M,) int64."""
    first: dict[tuple[int, int], int] = {}
    keys = list(zip(people.individual.tolist(), day_of.tolist(), strict=True))
    for key, hour in zip(keys, hour_of.tolist(), strict=True):
        first[key] = min(hour, first.get(key, HOURS))
    return np.array([first[keys[row]] for row in rows.tolist()], np.int64)


def _age_columns(people: People, groups: Sequence[AgeGroup]) -> NDArray[np.int64]:
    """Return the age group of each person, len(groups) for none: (N,) int64."""
    places = group_indices(people.age, groups)
    return np.where(places < 0, len(groups), places)


def _spread(
    ages: NDArray[np.float64], lows: NDArray[np.float64], highs: NDArray[np.float64], groups: Sequence[AgeGroup]
) -> NDArray[np.float64]:
    """Return the expected number of people by group: (G,) float64. Each age is normal, with its 80 % interval."""
    with_age = ~np.isnan(ages)
    ages, widths = ages[with_age, None], (highs - lows)[with_age, None]
    stds = np.maximum(widths / (2 * Z_80), SMALLEST_STD)
    borders = np.unique([[group.low, group.high] for group in groups])
    below = 0.5 * (1 + np.asarray(ERF((borders - ages) / (stds * sqrt(2))), np.float64))
    below[:, borders == 0] = 0.0  # nobody is younger than 0
    totals = dict(zip(borders.tolist(), below.sum(axis=0), strict=True))
    return np.array([totals[group.high] - totals[group.low] for group in groups])


def _table(lines: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (lines, columns), 1)
    return counts


def _hidden(counts: Sequence[Shown]) -> NDArray[np.bool_]:
    return np.array([number is None for number in counts])


def _shown(counts: NDArray[np.int64], hidden: NDArray[np.bool_]) -> list[Shown]:
    return [None if is_hidden else int(number) for number, is_hidden in zip(counts, hidden, strict=True)]
