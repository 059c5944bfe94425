"""The charts of a report, as Vega-Lite specifications. Colours are variables of the style sheet: light, dark, print.

Every chart is hidden from screen readers, which get its description and the table beside it.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.cores.groups import AgeGroup
from pipeline.cores.wilson import Share
from pipeline.report.chart_parts import FROM_0, WHOLE, Spec, chart, quantity
from pipeline.report.fairness import GroupFairness
from pipeline.report.summaries import HOURS, Breakdown, Day, Overview

SHOWN_DAYS = 31
"""The most days in the chart of days and hours. The table has all."""
NARROW = {"expr": "width < 340 ? 9 : 12"}
COLOURS, SHAPES = ("var(--accent)", "var(--second)"), ("circle", "square")
HIDDEN_MARK = {"type": "text", "text": "∗", "baseline": "bottom", "dy": -2}


def ages_chart(overview: Overview, groups: Sequence[AgeGroup]) -> Spec:
    """Return the chart of people by age group, with ticks at the numbers that the intervals suggest."""
    values = [
        {"group": group.name, "people": people, "expected": expected}
        for group, people, expected in zip(groups, overview.total.ages[:-1], overview.expected, strict=True)
    ]
    tooltip = [
        {"field": "group", "title": "age"},
        {"field": "people", "title": "persons"},
        {"field": "expected", "title": "if spread over the intervals"},
    ]
    ticks = {"type": "tick", "orient": "horizontal", "color": "var(--ink)", "thickness": 2, "width": {"band": 0.9}}
    return chart(
        height=240,
        data={"values": values},
        encoding={
            "x": {
                "field": "group",
                "type": "ordinal",
                "scale": {"domain": [group.name for group in groups]},
                "axis": {
                    "labelAngle": 0,
                    "title": "estimated age, years",
                    "labelOverlap": False,
                    "ticks": False,
                    "labelFontSize": NARROW,
                },
            }
        },
        layer=[
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 3, "width": {"band": 0.7}, "color": "var(--accent)"},
                "encoding": {"y": quantity("people", "persons", axis=WHOLE, scale=FROM_0), "tooltip": tooltip},
            },
            {
                "transform": [{"filter": "isValid(datum.expected)"}],
                "mark": ticks,
                "encoding": {"y": quantity("expected", "persons", axis=WHOLE), "tooltip": tooltip},
            },
            {
                "transform": [{"filter": "!isValid(datum.people)"}],
                "mark": HIDDEN_MARK,
                "encoding": {"y": {"value": "height"}},
            },
        ],
    )


def days_chart(days: Sequence[Day]) -> Spec:
    """Return the chart of people by day and hour: the stronger the colour, the more people."""
    dated = [day for day in days if day.date is not None][-SHOWN_DAYS:]
    values = [
        {"day": f"{day.date:%a %d %b %Y}", "hour": hour, "people": people.people}
        for day in dated
        for hour, people in day.hours
    ]
    return chart(
        height={"step": 18},
        data={"values": values},
        encoding={
            "x": _hour_axis(),
            "y": {"field": "day", "type": "ordinal", "sort": None, "title": None, "scale": {"paddingInner": 0.12}},
        },
        layer=[
            {
                "transform": [{"filter": "isValid(datum.people)"}],
                "mark": {"type": "rect", "color": "var(--accent)", "cornerRadius": 2},
                "encoding": {
                    "opacity": quantity("people", None, legend=None, scale={"range": [0.15, 1], "zero": True}),
                    "tooltip": [{"field": "day"}, {"field": "hour"}, {"field": "people", "title": "persons"}],
                },
            },
            {
                "transform": [{"filter": "!isValid(datum.people)"}],
                "mark": {"type": "text", "text": "∗", "baseline": "middle"},
            },
        ],
    )


def _hour_axis() -> Spec:
    return {
        "field": "hour",
        "type": "ordinal",
        "title": "hour",
        "scale": {"domain": list(range(HOURS)), "paddingInner": 0.12},
        "axis": {"labelAngle": 0, "labelOverlap": "greedy", "ticks": False},
    }


def hours_chart() -> Spec:
    """Return the chart of people by hour of a day. The page fills in the rows: hour, people."""
    return chart(
        height=180,
        data={"name": "rows", "values": []},
        encoding={"x": _hour_axis()},
        layer=[
            {
                "mark": {"type": "bar", "color": "var(--accent)", "cornerRadiusEnd": 3},
                "encoding": {
                    "y": quantity("people", "persons", axis=WHOLE, scale=FROM_0),
                    "tooltip": [{"field": "hour"}, {"field": "people", "title": "persons"}],
                },
            },
            {
                "transform": [{"filter": "!isValid(datum.people)"}],
                "mark": HIDDEN_MARK,
                "encoding": {"y": {"value": "height"}},
            },
        ],
    )


def abstention_chart(groups: Sequence[GroupFairness]) -> Spec:
    """Return the chart of people without an estimate by group, with the 95 % intervals of the shares."""
    values = [
        {"group": group.name, "what": what} | _percent(share)
        for group in groups
        for what, share in (("no age", group.no_age), ("no gender", group.no_gender))
        if share is not None
    ]
    title = "share of the persons, % (95 % interval)"
    return _intervals_by_group(groups, values, ["no age", "no gender"], "%", title, scale={"domain": [0, 100]})


def width_chart(groups: Sequence[GroupFairness]) -> Spec:
    """Return the chart of the widths of age intervals by group, beside the measured mean errors."""
    values: list[Spec] = []
    for group in groups:
        if group.width is not None:
            low, middle, high = group.width
            values.append(
                {
                    "group": group.name,
                    "what": "half interval",
                    "value": middle / 2,
                    "low": low / 2,
                    "high": high / 2,
                }
            )
        if group.measured is not None:
            mae = group.measured.mae
            values.append(
                {
                    "group": group.name,
                    "what": "measured error",
                    "value": mae.value,
                    "low": mae.low,
                    "high": mae.high,
                }
            )
    return _intervals_by_group(groups, values, sorted({row["what"] for row in values}), "years", "years")


def _intervals_by_group(
    groups: Sequence[GroupFairness], values: Sequence[Spec], kinds: Sequence[str], unit: str, title: str, **axis: Any
) -> Spec:
    """Return a chart of figures by group: a point at each value, on a line over its interval.

    values: rows with group, what (of `kinds`), value, low and high.
    axis: of the figures.
    """
    return chart(
        height={"step": 13},
        data={"values": values},
        encoding={
            "y": _groups(groups),
            "yOffset": {"field": "what"},
            "color": _kind(kinds, COLOURS),
            "tooltip": _tooltip(unit),
        },
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
                "encoding": {"x": quantity("low", title, **axis), "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": quantity("value", title), "shape": _kind(kinds, SHAPES)},
            },
        ],
    )


def _kind(kinds: Sequence[str], marks: Sequence[str]) -> Spec:
    """Return the channel that tells the kinds of figures in one chart apart: marks are colours or shapes."""
    return {"field": "what", "type": "nominal", "scale": {"domain": kinds, "range": marks[: len(kinds)]}}


def _groups(groups: Sequence[GroupFairness]) -> Spec:
    return {
        "field": "group",
        "type": "ordinal",
        "sort": [group.name for group in groups],
        "title": None,
        "scale": {"paddingInner": 0.3},
    }


def _tooltip(unit: str) -> list[Spec]:
    titles = {"group": "group", "what": "figure", "value": unit, "low": "from", "high": "to"}
    return [{"field": field, "title": title} for field, title in titles.items()]


def _percent(share: Share) -> Spec:
    return {name: round(100 * getattr(share, name), 1) for name in ("value", "low", "high")}


def hour_rows(hours: Sequence[tuple[int, Breakdown]]) -> list[Spec]:
    """Return the hours of a day for `hours_chart`, and for the table beside it."""
    return [
        {"hour": hour, "people": people.people, "genders": people.genders, "ages": people.ages}
        for hour, people in hours
    ]
