"""What all charts of a report share: their look, and pieces of Vega-Lite."""

from typing import Any

Spec = dict[str, Any]
FONT = (
    '"Inter", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif'
)
"""The fonts of the style sheet. Vega measures text, for which it needs the names."""
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "padding": 0,
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "gridColor": "var(--rule)",
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFont": FONT,
        "titleFont": FONT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelPadding": 6,
        "tickSize": 4,
    },
    "axisY": {"domain": False, "ticks": False},
    "axisX": {"grid": False},
    "legend": {
        "labelColor": "var(--muted)",
        "labelFont": FONT,
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "direction": "horizontal",
        "offset": 6,
        "symbolSize": 90,
    },
    "text": {"fill": "var(--muted)", "font": FONT, "fontSize": 14},
}
"""The look that all charts share."""
WHOLE = {"labelExpr": "datum.value % 1 ? '' : format(datum.value, ',')"}
"""An axis of people, who come in whole numbers."""
FROM_0 = {"domain": {"unionWith": [0, 1]}}
"""A scale that begins at 0, also if all counts are hidden."""


def chart(**parts: Any) -> Spec:
    """Return the specification of a chart that is as wide as its place."""
    return {"width": "container", "config": CONFIG, **parts}


def quantity(field: str, title: str | None, **more: Any) -> Spec:
    """Return a channel that shows a number."""
    return {"field": field, "type": "quantitative", "title": title, **more}
