"""The page of a report: one HTML file with its styles, its script and the chart library in it.

Names of files are a stranger's text. Jinja2 escapes them in the page, the script sets them as text, and a policy in the
page lets only the scripts run that were written into it.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import charts, video_charts
from pipeline.report.figures import Figures
from pipeline.report.inputs import ReportOptions
from pipeline.report.videos import VideoFigures
from pipeline.text import count, printable
from pipeline.version import rollcall_version

HERE = Path(__file__).parent
SCRIPTS = ("lists.js", "page.js")
HIDDEN = Markup('<span class="hidden-count">∗<span class="unseen"> hidden</span></span>')
VIDEO_COLUMNS = (
    *("id", "name", "others", "is_picture", "duration", "size", "num_shots", "recorded", "warning"),
    *("persons", "ages", "women", "men", "work", "cost", "shots", "details"),
)
"""The columns of the videos in the data of the page."""


def render(figures: Figures, *, title: str, made_at: datetime, library: str) -> str:
    """Return the page.

    title: the uri of the output. library: the script of the charts (`chart_library`).
    """
    page = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters |= {"number": number, "percent": percent, "duration": duration, "money": money, "counted": count}
    scripts = [library, *((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)]
    options = figures.options
    return page.get_template("page.html").render(
        figures=figures,
        options=options,
        title=printable(title),
        name=printable(title.rstrip("/").rpartition("/")[2] or title),
        made_at=made_at.astimezone(options.zone),
        version=rollcall_version(),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {_hashes(*scripts)}",
        shown_days=charts.SHOWN_DAYS,
        data=_embedded(_data(figures)),
        age_names=[*(group.name for group in options.age_groups), "no age"],
        estimators=[model for model in figures.models if model.role.startswith("estimator")],
    )


def _data(figures: Figures) -> dict[str, Any]:
    """Return what the script of the page shows."""
    fairness = figures.fairness
    groups = [fairness.overall, *fairness.by_gender, *fairness.by_age]
    shown = [group for group in groups if group.name != "no judged face"]
    return {
        "charts": {
            "ages": charts.ages_chart(figures.overview, figures.options.age_groups),
            "days": charts.days_chart(figures.days),
            "hours": charts.hours_chart(),
            "abstention": charts.abstention_chart(shown),
            "width": charts.width_chart(shown),
            "timeline": video_charts.timeline_chart(),
            "rate": video_charts.rate_chart(),
            "video_ages": video_charts.video_ages_chart(),
        },
        "days": {day.date.isoformat(): charts.hour_rows(day.hours) for day in figures.days if day.date is not None},
        "age_groups": _age_groups(figures.options),
        "video_columns": VIDEO_COLUMNS,
        "videos": [_video(video) for video in figures.videos],
    }


def _age_groups(options: ReportOptions) -> list[list[Any]]:
    return [[group.name, group.low, group.high] for group in options.age_groups]


def _video(video: VideoFigures) -> Sequence[Any]:
    """Return a video as VIDEO_COLUMNS."""
    size = None if video.width is None else f"{video.width} × {video.height}"
    recorded = video.recorded_at and f"{video.recorded_at:%Y-%m-%d %H:%M}"
    return (
        *(video.video_id, video.name, video.others, video.is_picture, round(video.duration_s, 2), size),
        *(video.num_shots, recorded, video.warning, video.num_persons, video.num_ages, video.num_women),
        *(video.num_men, video.work_s, video.cost, video.shots, video.persons),
    )


def _embedded(data: Any) -> Markup:
    """Return JSON that nothing in it can end: the element that holds it ends at `</script>` alone."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hashes(*scripts: str) -> str:
    """Return the scripts as a content security policy names them."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def number(value: float | None, digits: int = 0) -> str | Markup:
    """Return a number for display: 12345.6 -> 12,346. None is hidden."""
    return HIDDEN if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 0) -> str | Markup:
    """Return a share for display: 0.256 -> 26 %. None is hidden."""
    return HIDDEN if share is None else f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Return a duration for display: 3700 s -> 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(math.floor(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def money(value: float | None) -> str:
    """Return a cost for display. It has no currency, because the prices of a configuration have none."""
    return "unknown" if value is None else f"{value:,.2f}" if value >= 1 or not value else f"{value:.4f}"
