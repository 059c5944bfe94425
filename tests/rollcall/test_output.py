"""`rollcall.read` gives the tables of an output, with the names of files, to pandas and Arrow."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import rollcall
from pipeline import rows
from pipeline.storage.compaction import compact_output
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from tests.builders import Film, Walker, publish
from tests.small_outputs import publish_steps, write_output

FILM = Film(4.0, [Walker(0, 4, x=20, look=1, age=30.0), Walker(1, 3, x=400, look=2)], cuts=[2.0])
FILES = {"v0": "cam2/b.mp4", "v1": "cam1/b.mp4", "v2": "cam1/a.mp4"}
"""By video_id. The order of files is not that of the ids."""


def write_named_output(uri: str) -> Store:
    """Write an output of FILES, each of one person in one frame."""
    store = write_output(Store(uri), sorted(FILES))
    index = OutputIndex.load(store)
    sources = tuple(Source(uri=f"/in/{file}", name=file, named_by="/in", etag="e") for file in FILES.values())
    index.name_sources(Listing(sources, 0, ("/in",)))
    for video_id, file in FILES.items():
        index.set_source(f"/in/{file}", video_id=video_id)
    index.follow_videos()
    index.save_sources()
    return store


@pytest.fixture
def named_output(tmp_path: Path) -> Store:
    return write_named_output(str(tmp_path / "out"))


def test_every_dataset_is_what_pandas_reads_with_the_names_of_files(tmp_path: Path) -> None:
    publish(FILM, [1, 3], str(tmp_path))
    run = rollcall.read(tmp_path)
    for name in (*rows.VIDEO_TABLES, "videos"):
        table = run.table(name)
        assert list(table.columns)[:2] == ["file", "video_id"]
        assert set(table["file"]) <= {"v.mp4"}
        pd.testing.assert_frame_equal(table.drop(columns="file"), pd.read_parquet(tmp_path / name))
    assert len(run.persons()) == 2
    pd.testing.assert_frame_equal(run.detections(), run.table("detections"))


def test_rows_are_ordered_by_file_and_are_the_same_after_compaction(named_output: Store) -> None:
    before = rollcall.read(named_output.uri)
    assert list(before.persons()["file"]) == before.files == ["cam1/a.mp4", "cam1/b.mp4", "cam2/b.mp4"]
    compact_output(named_output)
    for _ in publish_steps(named_output, "v1", 5):
        pass
    after = rollcall.read(named_output.uri)
    assert list(after.persons()["file"]) == before.files
    assert list(after.persons()["age"]) == [0.0, 5.0, 0.0]
    assert list(after.sources()["file"]) == list(after.videos()["file"]) == before.files


@pytest.mark.parametrize("name", ["cam1/b.mp4", "/in/cam1/b.mp4", "v1", Path("/in/cam1/b.mp4")])
def test_a_video_is_named_by_file_path_or_id(named_output: Store, name: str | Path) -> None:
    run = rollcall.read(named_output.uri)
    assert list(run.persons(name)["file"]) == ["cam1/b.mp4"]
    assert list(run.sources(video=name)["uri"]) == ["/in/cam1/b.mp4"]
    assert list(run.persons([name, "a.mp4"])["file"]) == ["cam1/a.mp4", "cam1/b.mp4"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.persons("b.mp4"), r"2 videos are called b\.mp4; name one of these: cam1/b\.mp4, cam2/b\.mp4"),
        (lambda run: run.persons("cam1/c.mp4"), r"has no video cam1/c\.mp4; did you mean cam1/[ab]\.mp4\?"),
        (lambda run: run.table("person"), "no dataset person; did you mean persons"),
        (lambda run: run.persons(columns=["file", "agee"]), "persons has no column agee; did you mean age"),
        (lambda run: run.plot_timeline(), "has 3 finished videos; name one"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_with_the_nearest_one(named_output: Store, ask, message: str) -> None:  # noqa: ANN001
    with pytest.raises(rollcall.UserError, match=message):
        ask(rollcall.read(named_output.uri))


def test_a_place_without_an_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(rollcall.UserError, match="is no output of rollcall"):
        rollcall.read(tmp_path)


def test_an_output_whose_first_run_ended_early_has_no_tables_yet(tmp_path: Path) -> None:
    Store(str(tmp_path)).put("_events/run/0.jsonl", b"{}\n")
    with pytest.raises(rollcall.UserError, match="has no tables yet: no run got as far as that; run `process` again"):
        rollcall.read(tmp_path)


def test_columns_are_chosen_in_order(named_output: Store) -> None:
    run = rollcall.read(named_output.uri)
    assert list(run.persons(columns=["gender", "file"]).columns) == ["gender", "file"]
    assert run.arrow("sources", columns=["uri"]).column_names == ["uri"]


def test_a_content_with_two_names_is_there_once_under_its_first_name(named_output: Store) -> None:
    index = OutputIndex.load(named_output)
    again = Source(uri="/in/z.mp4", name="z.mp4", named_by="/in/z.mp4", etag="e")
    index.name_sources(Listing((again,), 0, ("/in/z.mp4",)))
    index.set_source("/in/z.mp4", video_id="v0")
    index.save_sources()
    run = rollcall.read(named_output.uri)
    assert list(run.persons()["file"]) == ["cam1/a.mp4", "cam1/b.mp4", "cam2/b.mp4"]
    assert list(run.persons("z.mp4")["file"]) == ["cam2/b.mp4"]
    assert len(run.sources("z.mp4")) == 2


def test_a_damaged_table_gives_a_warning_that_names_the_video(named_output: Store) -> None:
    named_output.put("persons/v2.parquet", b"no parquet")
    with pytest.warns(UserWarning, match=r"cam1/a\.mp4 is left out"):
        assert len(rollcall.read(named_output.uri).persons()) == 2


def test_an_object_store_gives_the_same_tables_as_a_folder(bucket: str, named_output: Store) -> None:
    remote = write_named_output(f"{bucket}/out")
    local = rollcall.read(named_output.uri)
    for _ in range(2):  # the second time with a snapshot
        run = rollcall.read(remote.uri)
        for name in rows.PUBLISHED:
            if name not in ("sources", "runs"):  # etags differ
                pd.testing.assert_frame_equal(run.table(name), local.table(name))
        compact_output(remote)


def test_an_output_says_what_it_holds(named_output: Store) -> None:
    assert repr(rollcall.read(named_output.uri)) == f"<rollcall.Output {named_output.uri}: 3 videos, 3 persons>"


def test_the_import_loads_no_large_library() -> None:
    code = (
        "import sys, rollcall; print(*sorted({'torch', 'ray', 'pandas', 'matplotlib', 'av', 'cv2'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
