"""The rows that a run writes into `sources` and `videos`, without running anything."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from jobs.shared import run_record
from jobs.shared.cleanup import clear_work, prune_output
from jobs.shared.process_messages import say_pruned, say_results, say_vanished
from jobs.shared.run_costs import VideoCost
from jobs.shared.run_record import RunRecord
from jobs.shared.work_list import select_contents
from jobs.status import status
from pipeline.flow.events import ChunkDone, VideoDone, VideoFailed
from pipeline.planning import catalog
from pipeline.planning.catalog import Failure
from pipeline.storage import records, tombstones
from pipeline.storage.ledger import Keys, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.storage.tombstones import Removal
from pipeline.video import forgetting
from pipeline.video.job import PublishedVideo
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import Film, Walker, job, registry, target

FILM = Film(2.0, [Walker(0, 2, x=20)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Write an output in which the content `v` is done under the configuration `c`. No source is named yet."""
    reduce_video(job(FILM, [], str(tmp_path)), lambda parts: [track_part(part) for part in parts])
    return Store(str(tmp_path))


def new_record(store: Store, config_id: str = "c", *settings: str) -> RunRecord:
    return RunRecord(OutputIndex.load(store), target(config_id, *settings), "run", registry())


def listing(*names: str) -> Listing:
    return Listing(tuple(Source(uri=f"/in/{name}", name=name, named_by="/in", etag="e") for name in names), 0, ("/in",))


def run(
    store: Store, ids: Mapping[str, str | Failure], *, retry: bool = False, config_id: str = "c"
) -> tuple[RunRecord, list[str]]:
    record = new_record(store, config_id)
    ids_by_uri = {f"/in/{name}": content for name, content in ids.items()}
    record.enter_sources(listing(*ids).sources)
    record.enter_ids(ids_by_uri)
    record.enter_vanished(listing(*ids))
    chosen = [content.video_id for content in select_contents(record, catalog.contents(ids_by_uri), retry)]
    record.save_sources()
    return record, chosen


def give_up(record: RunRecord, video_id: str) -> None:
    record.costs[video_id] = VideoCost(datetime.now(UTC), reused=0)
    record.note(VideoFailed(video_id=video_id, stage="observe", reason="too bad"))


def sources(store: Store) -> pd.DataFrame:
    return pd.read_parquet(store.full("sources")).set_index("uri")


def test_a_new_name_for_a_done_content_gets_its_csv_and_no_work(store: Store) -> None:
    _, chosen = run(store, {"a.mp4": "v", "b.mp4": "v"})
    assert chosen == []
    assert sources(store).status.tolist() == ["done", "done"]
    assert store.read("csv/a.mp4.csv") == store.read("csv/b.mp4.csv") == store.read("csv/v.mp4.csv")


def test_a_forgotten_video_is_not_processed_again(store: Store) -> None:
    run(store, {"a.mp4": "v"})
    tombstones.begin(store, [Removal(video_id="v", is_whole=True)])
    forgetting.finish(store)
    for retry in (False, True):
        record, chosen = run(store, {"a.mp4": "v", "b.mp4": "w"}, retry=retry)
        assert chosen == ["w"]
        assert sources(store).status.to_dict() == {"/in/a.mp4": "forgotten", "/in/b.mp4": "pending"}
        assert sources(store).csv.isna().to_dict() == {"/in/a.mp4": True, "/in/b.mp4": False}
        contents = catalog.contents({"/in/a.mp4": "v"})
        assert catalog.video_status(contents[0], record.index, "c") is catalog.VideoStatus.FORGOTTEN


def test_a_source_that_was_replaced_by_a_done_content_gets_the_csv_of_that(store: Store) -> None:
    run(store, {"a.mp4": "another"})
    store.put("csv/a.mp4.csv", b"of the other content")
    run(store, {"a.mp4": "v"})
    assert store.read("csv/a.mp4.csv") == store.read("csv/v.mp4.csv")


@pytest.mark.parametrize("now", ["w", Failure("catalog", "cannot be read")])
def test_a_source_that_holds_nothing_good_any_more_has_no_csv_and_gets_it_back(
    store: Store, now: str | Failure
) -> None:
    give_up(run(store, {"bad.mp4": "w"})[0], "w")
    run(store, {"a.mp4": "v"})
    assert store.exists("csv/a.mp4.csv")
    run(store, {"a.mp4": now})
    assert not store.exists("csv/a.mp4.csv")
    run(store, {"a.mp4": "v"})
    assert store.read("csv/a.mp4.csv") == store.read("csv/v.mp4.csv")


def test_another_configuration_redoes_what_is_named(store: Store) -> None:
    assert run(store, {"a.mp4": "v"}, config_id="d")[1] == ["v"]


def test_what_was_given_up_is_tried_again_only_when_asked_or_changed(store: Store) -> None:
    record, chosen = run(store, {"bad.mp4": "w"})
    assert chosen == ["w"]
    give_up(record, "w")
    record.save_sources()
    assert run(store, {"bad.mp4": "w"})[1] == []
    assert run(store, {"bad.mp4": "w"}, retry=True)[1] == ["w"]
    assert run(store, {"bad.mp4": "w"}, config_id="d")[1] == ["w"]
    row = sources(store).loc["/in/bad.mp4"]
    assert (row.status, row.stage, row.reason) == ("quarantined", "observe", "too bad")


def published_files(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names("") if not name.startswith(("_", "sources/", "runs/"))}


def test_a_video_that_fails_under_another_configuration_keeps_its_tables_and_sources_states_why(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_record, "models", lambda *_: {})
    run(store, {"a.mp4": "v"})
    before = published_files(store)
    record, _ = run(store, {"a.mp4": "v"}, config_id="d")
    give_up(record, "v")
    record.close("done")
    assert {name: content for name, content in published_files(store).items() if name != "run.json"} == before
    row = sources(store).loc["/in/a.mp4"]
    assert (row.status, row.stage, row.reason) == ("done", "observe", "no newer tables: too bad")
    assert str(row.failed_config_id) == "d"
    this_run = json.loads(store.read("run.json"))["this_run"]
    assert (this_run["quarantined"], this_run["kept"]) == (1, 1)
    say_results(record, catalog.contents({"/in/a.mp4": "v"}))
    assert "quarantined at observe: /in/v.mp4: too bad; its tables of configuration c stay" in capsys.readouterr().out
    status(store.uri, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["videos"]["done"], facts["videos"]["kept"]) == (1, 1)
    (kept,) = facts["kept"]
    assert (kept["config_id"], kept["failed_config_id"], kept["reason"]) == ("c", "d", "too bad")


def test_newer_tables_that_failed_are_tried_again_as_a_quarantined_video_is(store: Store) -> None:
    record, _ = run(store, {"a.mp4": "v"}, config_id="d")
    give_up(record, "v")
    record.save_sources()
    assert run(store, {"a.mp4": "v"}, config_id="d")[1] == []
    assert run(store, {"a.mp4": "v"}, config_id="d", retry=True)[1] == ["v"]
    assert run(store, {"a.mp4": "v"}, config_id="e")[1] == ["v"]
    assert run(store, {"a.mp4": "v"})[1] == []
    row = sources(store).loc["/in/a.mp4"]
    assert (row.status, row.stage, row.reason, row.failed_config_id) == ("done", None, None, None)
    assert run(store, {"a.mp4": "v"}, config_id="d")[1] == ["v"]


def test_a_source_with_another_content_has_not_failed(store: Store) -> None:
    record, _ = run(store, {"a.mp4": "v"}, config_id="d")
    give_up(record, "v")
    record.save_sources()
    run(store, {"a.mp4": "w"}, config_id="d")
    assert sources(store).failed_config_id.tolist() == [None]
    assert not OutputIndex.load(store).failed


def test_a_video_whose_tables_are_half_written_leaves_none_of_them(store: Store) -> None:
    record, _ = run(store, {"a.mp4": "v"})
    records.hide_video(store, "v")
    record, _ = run(store, {"a.mp4": "v"})
    give_up(record, "v")
    assert pd.read_parquet(store.full("videos")).status.tolist() == ["quarantined"]
    for name in ("detections", "persons", "tracklets", "shots"):
        assert len(pd.read_parquet(store.full(name))) == 0
    assert not store.exists("csv/a.mp4.csv")


@pytest.mark.parametrize("keep", [False, True])
def test_the_work_on_newer_tables_that_failed_goes_and_what_the_older_ones_keep_stays(store: Store, keep: bool) -> None:
    keys = {"c": "_work/v/observed-o", "d": "_work/v/observed-other"}
    if keep:
        store.put("embeddings/v.parquet", b"kept")
    records.write_recipe(store, "c", target("c").recipe.to_json())
    record, _ = run(store, {"a.mp4": "v"}, config_id="d")
    for folder in keys.values():
        store.put(f"{folder}/00000000-end.parquet", b"chunk")
    give_up(record, "v")
    wanted = target("d")
    clear_work(record.index, replace(wanted, recipe=replace(wanted.recipe, keys=Keys("other", "other"))))
    assert store.names("_work/v") == ([f"{keys['c']}/00000000-end.parquet"] if keep else [])


def test_the_work_of_a_video_that_is_given_up_goes_when_no_worker_writes_there_any_more(store: Store) -> None:
    record, _ = run(store, {"bad.mp4": "w"})
    store.put("_work/w/attempts/run.observe.0.1", b"")
    give_up(record, "w")
    assert store.names("_work/w")
    clear_work(record.index, record.target)
    assert not store.names("_work")


def test_work_that_a_done_video_has_left_goes_unless_biometrics_are_kept(store: Store) -> None:
    store.put("_work/v/observed-o/00000000-end.parquet", b"killed before it was cleared")
    record, _ = run(store, {"a.mp4": "v"}, config_id="d")
    clear_work(record.index, record.target)
    assert store.names("_work/v"), "chunks of an interrupted run under another configuration"
    run(store, {"a.mp4": "v"})
    clear_work(OutputIndex.load(store), target("c", "biometrics.keep=true"))
    assert store.names("_work/v")
    run(store, {"a.mp4": "v"})
    clear_work(OutputIndex.load(store), target("c"))
    assert not store.names("_work")


def test_a_source_that_cannot_be_read_has_no_content_and_says_why(store: Store) -> None:
    record, chosen = run(store, {"gone.mp4": Failure("catalog", "cannot be read"), "a.mp4": "v"})
    assert chosen == []
    assert list(record.unreadable) == ["/in/gone.mp4"]
    row = sources(store).loc["/in/gone.mp4"]
    assert (row.video_id, row.status, row.reason) == (None, "quarantined", "cannot be read")


def test_pruning_takes_what_nobody_names_and_nothing_else(store: Store) -> None:
    run(store, {"a.mp4": "v", "b.mp4": "v"})
    record, _ = run(store, {"b.mp4": "v"})
    prune_output(record.index)
    assert list(record.index.videos) == ["v"]
    record, _ = run(store, {"c.mp4": "w"})
    kept = ("embeddings/v.parquet", "_work/v/observed-o/00000000-end.parquet", summary_name("v"))
    for name in kept:
        store.put(name, b"x")
    prune_output(record.index)
    record.save_sources()
    assert not [name for name in kept if store.exists(name)]
    assert len(pd.read_parquet(store.full("videos"))) == 0
    assert len(pd.read_parquet(store.full("detections"))) == 0
    assert sources(store).index.tolist() == ["/in/c.mp4"]
    assert not store.exists("csv/b.mp4.csv")


def spent(store: Store, *prices: str) -> pd.Series:
    """Return the row of `runs` of a video that took half an hour of work and a quarter of an hour of GPUs."""
    record = new_record(store, "c", *prices)
    record.enter_sources(listing("a.mp4").sources)
    record.enter_ids({"/in/a.mp4": "v"})
    record.enter_vanished(listing("a.mp4"))
    record.costs["v"] = VideoCost(datetime.now(UTC), reused=1)
    for span, attempts in (((0, 5), 1), ((5, -1), 2)):
        timings = {"observe": (600.0, 300.0), "estimate": (100.0, 150.0)}
        record.note(
            ChunkDone(video_id="v", span=span, num_frames=9, num_detections=0, timings=timings, attempts=attempts)
        )
    published = PublishedVideo(video_id="v", row=record.index.videos["v"], num_chunks=3)
    record.note(VideoDone(published=published, stage="reduce", seconds=400.0))
    record.save_sources()
    return pd.read_parquet(store.full("runs")).iloc[0]


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ([], None),
        (["run.cpu_hour_price=2"], 1.0),
        (["run.gpu_hour_price=8"], 2.0),
        (["run.cpu_hour_price=2", "run.gpu_hour_price=8"], 3.0),
        (["run.cpu_hour_price=0"], 0.0),
    ],
)
def test_a_video_costs_its_hours_of_work_and_of_gpus_at_their_prices(
    store: Store, prices: list[str], cost: float | None
) -> None:
    row = spent(store, *prices)
    assert (row.seconds, row.gpu_seconds, row.attempts) == (1800, 900, 2)
    assert (row.num_chunks, row.chunks_reused) == (3, 1)
    assert pd.isna(row.cost) if cost is None else row.cost == cost


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_renamed_source_leaves_no_csv_behind_and_gets_it_back(store: Store) -> None:
    run(store, {"a.mp4": "v"})
    record, chosen = run(store, {"b.mp4": "v"})
    assert (chosen, record.vanished, record.renamed) == ([], ["/in/a.mp4"], {"/in/a.mp4": "/in/b.mp4"})
    assert not store.exists("csv/a.mp4.csv")
    assert store.read("csv/b.mp4.csv") == store.read("csv/v.mp4.csv")
    assert sources(store).csv.to_dict() == {"/in/a.mp4": None, "/in/b.mp4": "csv/b.mp4.csv"}
    assert sources(store).current.to_dict() == {"/in/a.mp4": False, "/in/b.mp4": True}
    record, _ = run(store, {"a.mp4": "v", "b.mp4": "v"})
    assert (record.vanished, record.renamed) == ([], {})
    assert store.read("csv/a.mp4.csv") == store.read("csv/v.mp4.csv")


def test_what_is_gone_keeps_its_rows_and_its_csv_and_is_told_once(store: Store) -> None:
    run(store, {"a.mp4": "v", "b.mp4": "w"})
    record, _ = run(store, {"b.mp4": "w"})
    assert (record.vanished, record.renamed) == (["/in/a.mp4"], {})
    assert record.index.unnamed() == ["v"]
    assert store.exists("csv/a.mp4.csv")
    assert record.index.csv_names("v") == ["csv/a.mp4.csv"]
    assert run(store, {"b.mp4": "w"})[0].vanished == []


def test_a_run_says_what_is_gone_and_what_it_prunes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number}[red].mp4" for number in range(7)]
    run(store, dict.fromkeys(names, "v") | {"w.mp4": "w"})
    record, _ = run(store, {"w.mp4": "w"})
    say_vanished(record)
    say_pruned(record.index)
    prune_output(record.index)
    say_pruned(record.index)
    listed = ", ".join(names[:5]) + " and 2 more"
    assert capsys.readouterr().out.splitlines() == [
        f"7 sources are gone: {listed}; what is known of them stays until process --prune",
        f"pruning 7 sources that are gone: {listed}",
        "pruning all rows of 1 video that no source names: v.mp4",
        "nothing to prune: every source is there, and every video has one",
    ]
    record, _ = run(store, {"x.mp4": "w"})
    say_vanished(record)
    assert capsys.readouterr().out == "w.mp4 is x.mp4 now; the CSV of its old name is removed\n"


def test_nothing_below_a_folder_that_cannot_be_listed_is_gone(store: Store) -> None:
    run(store, {"day/a.mp4": "v", "b.mp4": "w"})
    day = Source(uri="/in/day", name="day", named_by="/in", missing="cannot be listed: no", is_unlisted=True)
    record = new_record(store)
    record.enter_sources((day,))
    record.enter_ids({"/in/day": Failure("catalog", "cannot be listed: no")})
    record.enter_vanished(Listing((day,), 0, ("/in",)))
    assert record.vanished == ["/in/b.mp4"]
    prune_output(record.index)
    record.save_sources()
    assert store.exists("csv/day/a.mp4.csv")
    assert list(record.index.videos) == ["v"]
    assert sources(store).csv.to_dict() == {"/in/day": None, "/in/day/a.mp4": "csv/day/a.mp4.csv"}
    run(store, {"day/a.mp4": "v"})
    assert sources(store).index.tolist() == ["/in/day/a.mp4"]


def test_an_output_of_an_earlier_version_that_climbs_out_is_given_a_name_inside(store: Store, tmp_path: Path) -> None:
    run(store, {"a.mp4": "v"})
    table = sources(store).reset_index().assign(csv="csv/../../escape.csv")
    table.to_parquet(store.full("sources/sources.parquet"))
    beside = tmp_path.parent / "escape.csv"
    beside.write_bytes(b"kept")
    for ids in ({"a.mp4": "w"}, {"a.mp4": "v"}):
        run(store, ids)
        assert sources(store).csv.tolist() == ["csv/a.mp4.csv"]
    assert beside.read_bytes() == b"kept"
    beside.unlink()


def test_an_output_of_an_earlier_version_in_which_a_csv_is_also_a_folder_is_mended(store: Store) -> None:
    run(store, {"a.mp4": "w", "a.mp4.csv/b.mp4": "v"})
    table = sources(store).reset_index()
    table = table.assign(csv="csv/" + table["uri"].str.removeprefix("/in/") + ".csv")
    table.to_parquet(store.full("sources/sources.parquet"))
    run(store, {"a.mp4": "v", "a.mp4.csv/b.mp4": "v"})
    assert sources(store).csv.tolist() == ["csv/a.mp4.csv", "csv/a.mp4.csv.2/b.mp4.csv"]
    assert all(store.exists(name) for name in sources(store).csv)


def test_names_and_reasons_that_are_not_utf8_are_written_as_text(store: Store) -> None:
    run(store, {"a.mp4": Failure("catalog", "no file caf\udce9.mp4")})
    assert sources(store).reason.tolist() == ["no file caf%E9.mp4"]


def test_a_log_names_some_of_many_bad_files_and_where_all_are(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_record, "models", lambda *_: {})
    record, _ = run(store, {f"{n:02}.mp4": Failure("probe", "no video") for n in range(30)})
    record.close("done")
    say_results(record, [])
    said = capsys.readouterr().out
    assert said.count("quarantined at probe") == 25
    assert f"… and 5 more; rollcall status {store.uri} --json has all" in " ".join(said.split())
    status(store.uri)
    assert "… and 5 more; --json has all" in capsys.readouterr().out
