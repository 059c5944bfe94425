"""Make the report of an output: read its tables, compute the figures, write the page."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from jobs.shared.report_thumbnails import thumbnails
from pipeline.report.cards import read_card
from pipeline.report.figures import figures_of
from pipeline.report.inputs import DATASETS, ReportOptions, ReportTables
from pipeline.report.library import chart_library
from pipeline.report.page import render
from pipeline.report.work import estimator_of
from pipeline.storage.output_view import OutputView
from pipeline.storage.store import Store

FOLDER = "report"
PAGE = f"{FOLDER}/index.html"
"""The place of the report below the output."""
MAX_PERSONS = 50_000
"""The most persons whose details the page holds: about 4 MB."""
DEFAULTS = ReportOptions(UTC, "UTC")


def write_report(uri: str, options: ReportOptions = DEFAULTS, place: Store | None = None) -> str:
    """Write the report of the output at `uri` to URI/report/index.html, and return where it is.

    place: writes index.html below it instead.

    Raises UserError if there is no such output.
    """
    with ThreadPoolExecutor(1) as aside:  # a second of work, in which the tables are read
        library = aside.submit(chart_library)
        given, store = read_output(uri, with_pictures=not options.summary_only)
        estimator = estimator_of(given.run)
        card = None if estimator is None else read_card(*estimator)
        figures = figures_of(given, options, card, MAX_PERSONS)
        page = render(figures, title=store.uri, made_at=datetime.now(UTC), library=library.result())
    target, name = (store, PAGE) if place is None else (place, "index.html")
    target.put(name, page.encode())
    return target.full(name)


def read_output(uri: str, *, with_pictures: bool = False) -> tuple[ReportTables, Store]:
    """Return the tables of the output at `uri`, and its place.

    with_pictures: whether pictures of persons are read, if the output holds some.
    """
    view = OutputView.open(uri)
    index = view.index
    given = ReportTables(
        sources=list(index.sources.values()),
        videos=index.videos,
        names={video_id: index.file_names(video_id) for video_id in index.done()},
        tables={name: view.read(name, columns=columns) for name, columns in DATASETS.items()},
        sequences=view.read("sequences"),
        runs=view.read("runs"),
        run=_run_json(view.store),
        left_out=view.left_out,
        pictures=thumbnails(view) if with_pictures else {},
    )
    return given, view.store


def _run_json(store: Store) -> Mapping[str, Any]:
    """Return run.json, or nothing if there is none yet, or if a reader of a young output cannot make sense of it."""
    try:
        facts = json.loads(store.read("run.json"))
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
