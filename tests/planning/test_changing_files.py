"""A file that changes while a run reads it, as one does that is still being written, is left to the next run."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import ChangedError, DataError
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import Progress, VideoDeferred, VideoDone, event_of, finish_video
from pipeline.media.decode import SpanDecoder
from pipeline.media.probe import Probe
from pipeline.media.probing import probe
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, Failure
from pipeline.storage import tables
from pipeline.storage.content_ids import content_id
from pipeline.storage.ledger import Keys, Ledger
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from pipeline.storage.walk import entry_at
from pipeline.video.job import VideoJob
from pipeline.video.parts import track_here
from tests import clips
from tests.builders import Film, Walker, chunk, configured, job_of

FILM = Film(4.0, [Walker(0, 4, x=20)])
SPAN = (0, -1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that was last written a minute ago."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the beginning of a recording")
    minute_ago = time.time() - 60
    os.utime(path, (minute_ago, minute_ago))
    return path


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b", and more")


def listed(path: Path) -> Source:
    entry = entry_at(str(path))
    return Source(uri=str(path), name=path.name, named_by="", size_bytes=entry.size_bytes, etag=entry.etag)


def test_a_file_that_grew_after_it_was_listed_is_deferred(path: Path) -> None:
    source = listed(path)
    ids = catalog.identify([source], None)
    assert isinstance(ids[source.uri], str)
    grow(path)
    failure = catalog.identify([source], None)[source.uri]
    assert isinstance(failure, Failure)
    assert failure.may_pass
    assert "still being written; the next run takes it" in failure.reason
    with pytest.raises(ChangedError):
        content_id(source)


class Pool:
    """A pool whose probes fail after `meanwhile` was called."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def probe(self, uri: str) -> Probe:
        self._meanwhile()
        raise DataError("the index is missing")


def probed(path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> Failure:
    monkeypatch.setattr(catalog, "ProbePool", lambda: Pool(meanwhile))
    failure = catalog.probe_all([Content(video_id="v", uris=(str(path),))])["v"]
    assert isinstance(failure, Failure)
    return failure


def test_a_file_that_cannot_be_probed_while_it_grows_is_deferred(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(path, monkeypatch, lambda: grow(path)).may_pass


def waiting(monkeypatch: pytest.MonkeyPatch, wait: Callable[[float], object]) -> None:
    """Let `wait` replace the waits for a file, which is fresh for as long as a busy machine may take to look at it."""
    monkeypatch.setattr(catalog, "SETTLED_S", 50)
    monkeypatch.setattr(catalog, "time", SimpleNamespace(time=time.time, sleep=wait))


def test_a_file_that_was_written_a_moment_ago_is_looked_at_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    waiting(monkeypatch, lambda _: grow(path))
    assert probed(path, monkeypatch, lambda: None).may_pass


def test_a_file_that_no_longer_changes_is_given_up_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(monkeypatch, lambda _: pytest.fail("it waited"))
    failure = probed(path, monkeypatch, lambda: None)
    assert (failure.may_pass, failure.reason) == (False, "the index is missing")


def test_a_fresh_file_that_stays_as_it_is_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(monkeypatch, lambda _: None)
    path.touch()
    assert not probed(path, monkeypatch, lambda: None).may_pass


@pytest.fixture
def job(path: Path, tmp_path: Path) -> VideoJob:
    store = Store(str(tmp_path / "out"))
    tables.create(store, keep_biometrics=False)
    ledger = Ledger(store, Keys("o", "e"))
    ledger.commit("v", SPAN, *chunk(FILM, FILM.frames(), SPAN))
    entry = entry_at(str(path))
    assert entry.size_bytes
    assert entry.etag
    return replace(
        job_of(FILM, [SPAN], ledger, configured(), "v"), uri=str(path), listed=(entry.size_bytes, entry.etag)
    )


def test_a_video_is_not_published_from_chunks_of_a_file_that_has_changed(path: Path, job: VideoJob) -> None:
    grow(path)
    event = finish_video(job, track_here)
    assert isinstance(event, VideoDeferred)
    assert event.has_changed
    assert not job.ledger.store.names("_work/v")
    assert not job.ledger.store.names("persons/v.parquet")
    progress = Progress([], Deferrals((60, 60)))
    assert list(progress.take(event)) == [event]
    assert not progress.deferrals.is_waiting


def test_a_video_is_published_though_its_file_is_gone(path: Path, job: VideoJob) -> None:
    path.unlink()
    assert isinstance(finish_video(job, track_here), VideoDone)


def test_a_chunk_of_an_object_that_was_replaced_defers_its_video() -> None:
    error = {"stage": "observe", "kind": "ChangedError", "message": "it was replaced"}
    event = event_of(pa.Table.from_pylist([{"video_id": "v", "error": error}]))
    assert event == VideoDeferred(video_id="v", stage="observe", reason="it was replaced", has_changed=True)


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("first_cell", [0, 2])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b"replaced by something else"), "it can no longer be opened"),
        (lambda path: path.write_bytes(b""), "it can no longer be opened"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "it can no longer be opened"),
        (lambda path: path.unlink(), "it is not there any more"),
    ],
    ids=["replaced", "emptied", "cut", "deleted"],
)
def test_a_video_that_is_no_video_any_more_is_left_to_the_next_run(
    tmp_path: Path, change: Callable[[Path], Any], reason: str, first_cell: int, careful: bool
) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", keyframe_every=25)
    probed = probe(lambda: str(path))
    change(path)
    decoder = SpanDecoder(
        lambda: str(path), probed, first_cell, -1, fps=5, cell_seconds=1, thumbnail_px=64, threads=1, careful=careful
    )
    with pytest.raises(ChangedError, match=reason):
        list(decoder)


def test_a_file_that_is_deleted_before_its_header_is_read_is_left_to_the_next_run(tmp_path: Path) -> None:
    probes = catalog.probe_all([Content(video_id="v", uris=(str(tmp_path / "gone.mp4"),))])
    assert probes["v"] == Failure("probe", "it is not there any more", may_pass=True)
