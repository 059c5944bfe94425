"""The estimates of time in `plan`, without a video."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.plan import Line, _foresee, _show_totals
from jobs.shared.checks import place_of_output
from jobs.shared.run_record import RunRecord
from pipeline import rows
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.planning import catalog
from pipeline.storage import records, tables
from pipeline.storage.listing import list_sources
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.video.sequences import sequence_statuses
from tests.builders import Film, Walker, publish, registry, target

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_relink_is_no_measure_of_how_long_a_video_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(Film(2.0, [Walker(0, 2, x=20)]), [], str(tmp_path))
    store = Store(str(tmp_path))
    spent = {"gpu_seconds": 0.0, "chunks_reused": 0, "attempts": 1}
    for name, seconds, num_chunks in (("first", 120.0, 1), ("relinked", 0.1, 0)):
        row = records.run_row(name, "v", datetime.now(UTC), seconds=seconds, num_chunks=num_chunks, **spent)
        records.write_run(store, name, [row])
    assert "estimate from 1 earlier video with other configurations: 4 min 00 s of work" in estimate(store, capsys)


def estimate(store: Store, capsys: pytest.CaptureFixture[str], config_id: str = "unknown", *settings: str) -> str:
    """Return what `plan` says about 4 seconds of video."""
    config, lines = load(settings=settings).on_device("cpu"), [Line("/in/w.mp4", "new", "", chunks=1, seconds=4.0)]
    _show_totals(lines, config, OutputIndex.load(store), config_id)
    return capsys.readouterr().out


def test_plan_says_who_decodes_only_if_a_card_may(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path))
    tables.create(store, keep_biometrics=False)
    assert "decode" not in estimate(store, capsys)
    assert "the CPU decodes: the models run on the CPU" in estimate(store, capsys, "unknown", "observe.decoder=auto")


def test_an_estimate_judges_by_the_same_configuration_if_it_can_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path))
    tables.create(store, keep_biometrics=False)
    assert "unknown, there is no finished video" in estimate(store, capsys)
    blank = dict.fromkeys(rows.DATASETS["videos"].names)
    for video_id, config_id, seconds in (("v", "old", 10.0), ("w", "new", 30.0), ("x", "new", 50.0)):
        facts = {"video_id": video_id, "uri": f"/in/{video_id}", "status": "done", "duration_s": 2.0}
        records.write_video(store, blank | facts | {"config_id": config_id})
        for started_at, spent in ((BEGAN, 9999.0), (BEGAN + timedelta(days=1), seconds)):
            values = {"gpu_seconds": 0.0, "chunks_reused": 0, "attempts": 1, "num_chunks": 1, "seconds": spent}
            run_id = f"{started_at:%d}-{video_id}"
            records.write_run(store, run_id, [records.run_row(run_id, video_id, started_at, **values)])
    assert "estimate from 2 earlier videos with this configuration: 1 min 20 s of" in estimate(store, capsys, "new")
    assert "estimate from 1 earlier video with this configuration: 20 s of" in estimate(store, capsys, "old")
    assert "estimate from 3 earlier videos with other configurations: 1 min 00 s" in estimate(store, capsys, "third")


def test_plan_and_status_count_the_same_files_of_a_sequence(tmp_path: Path) -> None:
    for name, text in (("a.mp4", "one"), ("b.mp4", "two"), ("again.mp4", "two")):
        (tmp_path / name).write_text(text)
    named = ("a.mp4", "b.mp4", "again.mp4", "missing.mp4")
    (tmp_path / "list.csv").write_text("uri,sequence\n" + "".join(f"{name},cam\n" for name in named))
    store = Store(str(tmp_path / "out"))
    tables.create(store, keep_biometrics=False)
    listing = list_sources([f"@{tmp_path}/list.csv"], store.uri)
    foreseen = OutputIndex.load(store)
    ids = catalog.identify(listing.sources, foreseen)
    _foresee(foreseen, listing, ids)

    book = RunRecord(OutputIndex.load(store), target("c"), "run", registry())
    book.enter_sources(listing.sources)
    book.enter_ids(ids)
    book.enter_vanished(listing)
    book.save_sources()
    indexes = (foreseen, OutputIndex.load(store))
    numbers_of_files = [[status.files for status in sequence_statuses(index)] for index in indexes]
    assert numbers_of_files == [[3], [3]], "each content once, and what cannot be read"


def test_the_output_may_stand_in_the_configuration() -> None:
    config = load(settings=["run.output=s3://bucket/results"])
    assert place_of_output(None, config) == "s3://bucket/results"
    assert place_of_output("out", config) == "out"
    with pytest.raises(UserError, match=r"name it with --output URI, or as run\.output"):
        place_of_output(None, load())
