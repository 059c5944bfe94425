"""A run begins before its sources are all listed, and ends with the bytes of a run that lists them first."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.shared.run_record import RunRecord
from pipeline.flow.events import ChunkDone, Event
from pipeline.storage import object_pages
from pipeline.storage.listing import OpenListing, list_sources, open_listing
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from tests.builders import Film, Walker
from tests.jobs.test_process_leaves_no_trace import Attempt, Scene, Video, lasting, work_through_scene
from tests.patience import PATIENCE_S
from tests.s3_proxy import Request, S3Proxy

FILM = Film(2.0, [Walker(0, 2, x=20, look=1, age=30.0)])
SETTINGS = ("identity.wrong_joins=0.01",)
LOCAL = Attempt(settings=(), engine="local", page=2)


def video(number: int) -> Video:
    return Video(replace(FILM, walkers=(Walker(0, 2, x=20 + 10 * number, look=1),)), (0,), enterable=True, rotten=None)


def write_archive(folder: Path, names: str) -> list[Source]:
    """Write a file for each letter. Return the sources."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.mp4").write_text(f"film {name}")
        os.utime(folder / f"{name}.mp4", (10**8, 10**8))
    return list(list_sources([str(folder)], "/nowhere").sources)


def scene_of(sources: Sequence[Source]) -> Scene:
    """Return a scene in which each file is another film, by the first letter of its content."""
    return Scene({source.uri: video(ord(source.name[0]) - ord("a")) for source in sources}, LOCAL)


@pytest.fixture
def chunk_done(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set when the first chunk of a run is done."""
    done = threading.Event()
    note = RunRecord.note

    def observed(record: RunRecord, event: Event) -> None:
        if isinstance(event, ChunkDone):
            done.set()
        note(record, event)

    monkeypatch.setattr(RunRecord, "note", observed)
    return done


def test_the_first_chunk_does_not_wait_for_the_second_page(
    chunk_done: threading.Event, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = write_archive(tmp_path / "in", "abcdefg")
    waited = []

    def following() -> Iterator[Source]:
        yield from sources[:3]
        waited.append(chunk_done.wait(PATIENCE_S))
        yield from sources[3:]

    roots = (str(tmp_path / "in"),)
    work_through_scene(scene_of(sources), OpenListing(following(), roots), SETTINGS, Store(str(tmp_path / "open")))
    said = capsys.readouterr().out
    assert waited == [True]
    work_through_scene(scene_of(sources), Listing(tuple(sources), 0, roots), SETTINGS, Store(str(tmp_path / "whole")))
    assert lasting(tmp_path / "open") == lasting(tmp_path / "whole")
    lines = [line for line in said.splitlines() if "source" in line and "hashing" not in line]
    assert [line for line in lines if "more" in line or "beginning" in line][:2] == [
        "0 sources so far, more are being listed",
        "beginning with 2 sources; the others are listed and read meanwhile",
    ]
    assert "7 sources" in lines


def test_the_work_on_a_bucket_begins_before_its_second_page_is_listed(
    s3_proxy: S3Proxy, chunk_done: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 3)
    for name in "abcdefg":
        Store(f"{s3_proxy.bucket}/in").put(f"{name}.mp4", f"film {name}".encode())
    whole = list_sources([f"{s3_proxy.bucket}/in"], "/nowhere")
    work_through_scene(scene_of(whole.sources), whole, SETTINGS, Store(str(tmp_path / "whole")))
    chunk_done.clear()
    waited = []

    def wait_for_a_chunk(request: Request) -> None:
        if request.verb == "LIST":
            waited.append(chunk_done.wait(PATIENCE_S))

    listing = open_listing([f"{s3_proxy.bucket}/in"], "/nowhere")
    s3_proxy.rule = wait_for_a_chunk
    work_through_scene(scene_of(whole.sources), listing, SETTINGS, Store(str(tmp_path / "open")))
    assert waited == [True, True]
    assert lasting(tmp_path / "open") == lasting(tmp_path / "whole")


def test_moved_replaced_and_removed_files_end_as_in_a_run_that_lists_first(tmp_path: Path) -> None:
    made = {}
    for way in ("open", "whole"):
        archive, store = tmp_path / "in", Store(str(tmp_path / way))
        sources = write_archive(archive, "bcde")
        work_through_scene(scene_of(sources), Listing(tuple(sources), 0, (str(archive),)), SETTINGS, store)
        os.rename(archive / "b.mp4", archive / "z.mp4")
        os.rename(archive / "e.mp4", archive / "a.mp4")
        (archive / "c.mp4").write_text("film x")
        (archive / "d.mp4").unlink()
        (archive / "y.mp4").write_text("film y")
        for path in archive.iterdir():
            os.utime(path, (10**9, 10**9))
        sources = list(list_sources([str(archive)], "/nowhere").sources)
        whole = Listing(tuple(sources), 0, (str(archive),))
        scene = scene_of(sources)
        listing = OpenListing(iter(sources), whole.roots) if way == "open" else whole
        work_through_scene(scene, listing, ("identity.wrong_joins=0.3",), store)
        made[way] = {name: data for name, data in lasting(tmp_path / way).items() if not name.startswith("_")}
        for path in archive.iterdir():
            path.unlink()
        archive.rmdir()
    assert sorted(name for name in made["whole"] if name.startswith("csv/")) == [
        *(f"csv/{name}.mp4.csv" for name in "acdyz"),
    ]
    assert {
        name for name in made["open"].keys() | made["whole"].keys() if made["open"].get(name) != made["whole"].get(name)
    } == set()


def test_an_object_store_is_listed_page_by_page_in_the_same_order(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 3)
    store = Store(f"{bucket}/in")
    for name in ("b.mp4", "a/c.mp4", "notes.txt", "a.mp4", "é.mp4", "z/a/d.mp4", "z.mp4", "z-1.mp4"):
        store.put(name, name.encode())
    whole = list_sources([f"{bucket}/in"], str(tmp_path / "out"))
    listing = open_listing([f"{bucket}/in"], str(tmp_path / "out"))
    assert not listing.is_complete
    assert listing.num_listed == 3
    assert [source.uri for source in listing] == [source.uri for source in whole.sources]
    assert listing.is_complete
    assert (listing.so_far().num_other, len(whole.sources)) == (1, 7)
    facts = [(source.name, source.size_bytes, source.etag, source.named_by) for source in whole.sources]
    assert [
        (source.name, source.size_bytes, source.etag, source.named_by) for source in listing.so_far().sources
    ] == facts
    assert [source.uri.removeprefix(f"{bucket}/in/") for source in whole.sources] == sorted(
        name for name in store.names("") if name.endswith(".mp4")
    )


def test_two_prefixes_and_a_list_are_one_order_and_a_file_named_twice_is_one_source(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.mp4", "a/2.mp4", "a/3.mp4", "b/1.mp4", "b/2.mp4", "c.mp4"):
        Store(bucket).put(name, name.encode())
    (tmp_path / "list.txt").write_text(f"{bucket}/c.mp4\n{bucket}/a/2.mp4\n{bucket}/missing.mp4\n")
    named = [f"{bucket}/b", f"@{tmp_path}/list.txt", f"{bucket}/a"]
    whole = list_sources(named, "/nowhere")
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 2)
    listing = open_listing(named, "/nowhere")
    assert not listing.is_complete
    in_pages = [replace(source, place=0) for source in listing]
    assert in_pages == [replace(source, place=0) for source in whole.sources]
    assert next(source.named_by for source in in_pages if source.name == "2.mp4") == f"@{tmp_path}/list.txt"


def test_sequences_are_listed_first(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        Store(bucket).put(f"in/{number}.mp4", b"x")
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 2)
    listing = open_listing([f"{bucket}/in"], "/nowhere", "folder")
    assert listing.is_complete
    assert listing.has_sequences
    assert [source.place for source in listing] == [1, 2, 3, 4, 5]


def test_the_rest_of_a_list_is_not_taken_for_missing_while_a_prefix_is_listed(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        Store(bucket).put(f"in/{number}.mp4", b"x")
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 2)
    listing = open_listing([f"{bucket}/in", f"{bucket}/in/4.mp4"], "/nowhere")
    assert [source.name for source in listing] == [f"{number}.mp4" for number in range(5)]
