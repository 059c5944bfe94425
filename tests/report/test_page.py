"""Tests of the page of a report as text. What it does in a browser is in test_in_chromium."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

from pipeline.report.figures import figures_of
from pipeline.report.inputs import ReportTables
from pipeline.report.page import duration, money, render
from tests.report.tables import given, options, person

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>.mp4"
LIBRARY = "window.vegaEmbed = () => Promise.resolve();"


def page_of(tables: ReportTables, title: str = "/out/shop", **values: Any) -> str:
    figures = figures_of(tables, options(**values), None, 50_000)
    return render(figures, title=title, made_at=datetime(2026, 5, 4, tzinfo=UTC), library=LIBRARY)


def data_of(page: str) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def test_a_name_of_a_file_cannot_end_the_script_that_holds_it_or_become_an_element() -> None:
    sources = [{"uri": EVIL, "status": "quarantined", "stage": "probe", "reason": EVIL}]
    page = page_of(given({EVIL: [person(30, "F")]}, sources=sources), title=f"/out/{EVIL}")
    assert data_of(page)["videos"][0][1] == EVIL
    assert page.count("<script") == page.count("</script>") == 4
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3  # title, heading, and the table of what is not done


def test_only_the_scripts_of_the_page_may_run() -> None:
    page = page_of(given({"a": [person()]}))
    match = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert match is not None
    policy = unescape(match[1])
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-")
    for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_the_page_names_no_other_place() -> None:
    page = page_of(given({"a": [person(30, "F")]}))
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", page)


def test_the_page_says_what_estimates_are_and_must_not_be_used_for() -> None:
    page = page_of(given({"a": [person(30, "F")]}))
    assert "Ages and genders are estimates" in page
    assert "Do not use them" in page


def test_a_hidden_count_is_a_sign_with_a_word_for_screen_readers() -> None:
    page = page_of(given({"a": [person(30, "F")] * 9 + [person(70, "M")]}), min_group=5)
    assert '<span class="hidden-count">∗<span class="unseen"> hidden</span></span>' in page
    assert "fewer than 5 persons" in page


def test_a_summary_has_no_list_of_persons() -> None:
    page = page_of(given({"a": [person(30, "F")] * 9}), summary_only=True)
    assert 'id="persons"' not in page
    assert data_of(page)["videos"][0][-1] is None


def test_every_table_has_a_caption_and_every_chart_a_description() -> None:
    page = page_of(given({"a": [person(30, "F")] * 9}, recorded_at={"a": datetime(2026, 5, 4, tzinfo=UTC)}))
    assert page.count("<table") == page.count("<caption>")
    charts = re.findall(r'<div class="chart"[^>]*>', page)
    assert len(charts) == 4
    assert all('role="img" aria-label="' in chart for chart in charts)


def test_an_output_without_anything_has_a_page() -> None:
    page = page_of(given({}))
    assert "Nothing: every source is done." in page


def test_durations_and_costs_are_written_for_people() -> None:
    assert [duration(seconds) for seconds in (0.25, 59, 61, 3700)] == ["0.2 s", "59 s", "1 min 01 s", "1 h 01 min"]
    assert [money(cost) for cost in (None, 0.0, 0.00123, 1234.5)] == ["unknown", "0.00", "0.0012", "1,234.50"]
