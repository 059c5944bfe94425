"""Tests of the figures of a report, computed from tables."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.cores.groups import parse_age_groups
from pipeline.report.figures import Figures, figures_of
from pipeline.report.inputs import ReportTables
from pipeline.report.work import estimator_of
from tests.report.tables import given, options, person

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def figures(tables: ReportTables, **values: Any) -> Figures:
    return figures_of(tables, options(**values), None, 50_000)


def test_people_are_counted_by_age_and_gender_and_without_either() -> None:
    made = figures(given({"a": [person(30, "F"), person(31, "M"), person(5, "F")], "b": [person(), person(70, "M")]}))
    assert (made.totals.num_persons, made.totals.num_ages, made.totals.num_genders) == (5, 4, 4)
    assert made.overview.total.genders == [2, 2, 1]
    assert made.overview.total.ages == [0, 1, 0, 0, 2, 0, 0, 1, 1]
    assert made.overview.cells[4] == [1, 1, 0]
    assert made.overview.total.women_share == 0.5


def test_an_age_is_spread_over_the_groups_that_its_interval_reaches() -> None:
    made = figures(given({"a": [person(22.5, "F", width=20)]}))
    expected = dict(zip([group.name for group in made.options.age_groups], made.overview.expected, strict=True))
    assert expected["15–20"] == expected["25–32"] == pytest.approx(0.4, abs=0.1)
    assert sum(value or 0 for value in made.overview.expected) == pytest.approx(1, abs=0.2)


def test_a_person_counts_in_the_hour_of_the_first_appearance_in_the_wanted_time_zone() -> None:
    people = {"a": [person(30, "F"), person(31, "M", start_s=3700)], "b": [person(40, "M")]}
    times = {"a": NOON, "b": NOON + timedelta(hours=11)}
    days = figures(given(people, recorded_at=times), zone=ZoneInfo("Europe/Berlin")).days
    assert [(day.date, day.num_videos, day.people.people) for day in days] == [
        (date(2026, 5, 4), 1, 2),
        (date(2026, 5, 5), 1, 1),
    ]
    assert [(hour, people.people) for hour, people in days[0].hours] == [(14, 1), (15, 1)]
    assert [(hour, people.genders) for hour, people in days[1].hours] == [(1, [0, 1, 0])]


def test_an_hour_that_a_change_of_the_clock_repeats_is_no_other_day() -> None:
    before = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, half an hour before the clock is put back
    tables = given({"a": [person(30, "F", start_s=3600)]}, recorded_at={"a": before})
    (day,) = figures(tables, zone=ZoneInfo("Europe/Berlin")).days
    assert [hour for hour, _ in day.hours] == [2]


def test_the_time_of_a_list_counts_before_that_of_the_container() -> None:
    sources = [{"uri": "/a", "video_id": "a", "status": "done", "recorded_at": NOON}]
    (day,) = figures(given({"a": [person()]}, recorded_at={"a": NOON - timedelta(days=400)}, sources=sources)).days
    assert day.date == NOON.date()


def test_a_video_without_a_time_of_recording_is_in_the_last_line() -> None:
    made = figures(given({"a": [person(30, "F")], "b": [person(40, "M")]}, recorded_at={"a": NOON}))
    assert [(day.date, day.people.people) for day in made.days] == [(NOON.date(), 1), (None, 1)]
    assert (made.days[1].hours, made.num_without_time) == ((), 1)


def test_a_person_in_several_files_of_a_sequence_counts_once_with_the_better_estimate() -> None:
    sequences = [
        {"sequence": "s", "position": place, "video_id": video_id, "person_id": 1, "sequence_person_id": 1}
        for place, video_id in enumerate("ab", start=1)
    ]
    people = {"a": [person(faces=0)], "b": [person(30, "F", faces=9)]}
    times = {"a": NOON, "b": NOON + timedelta(hours=1)}
    made = figures(given(people, recorded_at=times, sequences=sequences))
    assert (made.totals.num_persons, made.totals.num_individuals) == (2, 1)
    assert made.overview.total.genders == [1, 0, 0]
    (day,) = made.days
    assert (day.people.people, [hour for hour, _ in day.hours]) == (1, [12])


def test_small_groups_are_hidden_in_the_whole_in_days_and_in_hours() -> None:
    people = {"a": [person(30, "F")] * 9 + [person(70, "M")] * 2 + [person(31, "M")] * 8, "b": [person(30, "F")] * 3}
    made = figures(given(people, recorded_at={"a": NOON, "b": NOON + timedelta(days=1)}), min_group=5)
    assert made.overview.total.people == 22
    assert None in made.overview.total.ages
    shown = [*made.overview.total.ages, *made.overview.total.genders]
    assert not [count for count in shown if count is not None and 0 < count < 5]
    first, second = made.days
    assert second.people.people is None
    assert first.people.people is None  # 22 less 19 would be the three of the second day
    assert (first.hours, second.hours) == ((), ())


def test_free_age_groups_take_the_place_of_the_eight() -> None:
    made = figures(given({"a": [person(17), person(18), person(64.9)]}), age_groups=parse_age_groups("0-17,18-64,65+"))
    assert made.overview.total.ages == [1, 2, 0, 0]


def test_the_page_holds_the_details_of_videos_up_to_a_number_of_persons() -> None:
    made = figures_of(given({"a": [person()] * 3, "b": [person()] * 3}), options(), None, max_persons=4)
    assert [video.persons is not None for video in made.videos] == [True, False]
    assert made.totals.num_persons == 6


def test_a_summary_holds_no_single_person() -> None:
    made = figures(given({"a": [person(30, "F")] * 9, "b": [person(30, "M")] * 2}), summary_only=True, min_group=5)
    assert [video.persons for video in made.videos] == [None, None]
    assert [video.num_women for video in made.videos] == [None, None]
    assert [video.num_persons for video in made.videos] == [None, None]  # 11 less 9 would be the two of the other


def test_sources_that_are_not_done_are_named_with_their_reasons() -> None:
    sources = [
        {"uri": "/a", "video_id": "a", "status": "done"},
        {"uri": "/b", "status": "quarantined", "stage": "probe", "reason": "no video"},
        {"uri": "/c", "status": "pending", "stage": "identify", "reason": "deferred: no answer"},
        {"uri": "/d", "status": "pending"},
        {"uri": "/gone", "status": "quarantined", "stage": "probe", "reason": "no video", "current": False},
    ]
    made = figures(given({"a": [person()]}, sources=sources))
    assert [(row.name, row.stage, row.reason) for row in made.quarantined] == [("/b", "probe", "no video")]
    assert [(row.name, row.reason) for row in made.deferred] == [("/c", "no answer")]
    assert made.num_unfinished == 1


def test_an_output_without_anything_has_figures() -> None:
    made = figures(given({}))
    assert (made.totals.num_persons, made.days, made.videos) == (0, [], [])
    assert made.fairness.overall.num_people == 0


def test_an_estimator_of_parts_has_no_card() -> None:
    assert estimator_of({"models": {"estimator.age": {"name": "x"}}}) is None
    assert estimator_of({"models": {"estimator": {"name": "x", "sha256": "0"}}}) == ("x", "0")
    assert estimator_of({}) is None
