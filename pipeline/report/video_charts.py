"""The charts of a video, without data. The page fills in the rows when somebody opens the video."""

from pipeline.report.chart_parts import WHOLE, Spec, chart, quantity

GENDER = {
    "field": "gender",
    "type": "nominal",
    "scale": {"domain": ["female", "male", "none"], "range": ["var(--female)", "var(--male)", "var(--none)"]},
}
SHAPE = GENDER | {"scale": {"domain": ["female", "male", "none"], "range": ["circle", "square", "diamond"]}}
CLOCK = (
    "datum.value % 1 || domain('x')[1] < 120 ? datum.label + ' s' : "
    "floor(datum.value / 60) + ':' + pad(floor(datum.value % 60), 2, '0', 'left')"
)
"""The label of a time: 2.5 s in a short video, 12:30 in a long one."""


def timeline_chart() -> Spec:
    """Return the timeline of a video. The page fills in the rows (person, start, end, gender) and the cuts (at)."""
    return chart(
        height={"step": 15},
        data={"name": "rows", "values": []},
        layer=[
            {
                "data": {"name": "cuts", "values": []},
                "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [2, 3]},
                "encoding": {"x": quantity("at", None)},
            },
            {
                "mark": {"type": "bar", "cornerRadius": 2, "height": {"band": 0.7}},
                "encoding": {
                    "x": quantity(
                        "start",
                        "time in the video",
                        axis={"labelExpr": CLOCK, "grid": False},
                        scale={"domainMin": 0, "nice": False},
                    ),
                    "x2": {"field": "end"},
                    "y": {
                        "field": "person",
                        "type": "ordinal",
                        "sort": None,
                        "title": "person",
                        "axis": {"labelOverlap": "greedy"},
                    },
                    "color": GENDER,
                    "tooltip": [
                        {"field": "person"},
                        {"field": "start", "title": "from, s"},
                        {"field": "end", "title": "to, s"},
                        {"field": "gender"},
                    ],
                },
            },
        ],
    )


def rate_chart() -> Spec:
    """Return the chart of people over the time of a video. The page fills in the rows: start, end, people."""
    return chart(
        height=150,
        data={"name": "rows", "values": []},
        mark={"type": "bar", "color": "var(--accent)", "binSpacing": 1},
        encoding={
            "x": quantity(
                "start", "time in the video", axis={"labelExpr": CLOCK}, scale={"domainMin": 0, "nice": False}
            ),
            "x2": {"field": "end"},
            "y": quantity("people", "persons", axis=WHOLE),
            "y2": {"datum": 0},
            "tooltip": [
                {"field": "start", "title": "from, s"},
                {"field": "end", "title": "to, s"},
                {"field": "people", "title": "persons"},
            ],
        },
    )


def video_ages_chart() -> Spec:
    """Return the chart of the ages in a video with their intervals. The page fills in the rows: person, age, low,
    high, gender."""
    person = {"field": "person", "type": "ordinal", "sort": None, "title": "person", "axis": {"labelOverlap": "greedy"}}
    tooltip = [
        {"field": "person"},
        {"field": "age"},
        {"field": "low", "title": "80 % interval from"},
        {"field": "high", "title": "to"},
        {"field": "gender"},
    ]
    return chart(
        height={"step": 15},
        data={"name": "rows", "values": []},
        encoding={"y": person, "color": GENDER},
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45},
                "encoding": {
                    "x": quantity("low", "estimated age, years"),
                    "x2": {"field": "high"},
                    "tooltip": tooltip,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 65, "opacity": 1},
                "encoding": {"x": quantity("age", "estimated age, years"), "shape": SHAPE, "tooltip": tooltip},
            },
        ],
    )
