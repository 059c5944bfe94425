"""An object store instead of a disk: the same reduce, the same bytes, and pandas reads them in one call."""

from pathlib import Path

import pandas as pd

from jobs.relink import relink
from pipeline.rows import VIDEO_TABLES
from pipeline.stages.reduce import reduce_video
from pipeline.stages.track import track_part
from pipeline.storage.sources import content_id, list_sources
from pipeline.storage.state import State
from pipeline.storage.store import Store, opener
from tests.builders import Film, Walker, job, publish

FILM = Film(4.0, [Walker(0, 4, x=20, look=1, age=30.0), Walker(1, 3, x=400, look=2)], cuts=[2.0])


def test_the_same_bytes_come_out_and_pandas_reads_them(bucket: str, tmp_path: Path) -> None:
    for place in (f"{bucket}/out", str(tmp_path)):
        reduce_video(job(FILM, [1, 3], place), lambda parts: [track_part(part) for part in parts])
    remote, local = Store(f"{bucket}/out"), Store(str(tmp_path))
    assert remote.names("") == local.names("")
    assert [name for name in local.names("") if remote.read(name) != local.read(name)] == []
    for name in (*VIDEO_TABLES, "videos"):
        pd.testing.assert_frame_equal(pd.read_parquet(f"{bucket}/out/{name}"), pd.read_parquet(tmp_path / name))
    assert list(State.load(remote).videos) == ["v"]


def test_a_prefix_is_relinked_as_a_folder_is(bucket: str, tmp_path: Path) -> None:
    settings = ["identity.wrong_joins=1e-9"]
    publish(FILM, [1, 3], f"{bucket}/out")
    publish(FILM, [1, 3], str(tmp_path), *settings)
    relink(f"{bucket}/out", settings)
    remote, local = Store(f"{bucket}/out"), Store(str(tmp_path))
    assert [name for name in local.names("") if remote.read(name) != local.read(name)] == []
    assert remote.names("_work") == []
    assert len(pd.read_parquet(f"{bucket}/out/runs")) == 1


def test_a_prefix_is_a_source(bucket: str) -> None:
    store = Store(f"{bucket}/in")
    for name in ("a.mp4", "b/c.mkv", "notes.txt"):
        store.put(name, name.encode())
    listing = list_sources([f"{bucket}/in"], f"{bucket}/in/out")
    assert [(source.uri, source.name) for source in listing.sources] == [
        (f"{bucket}/in/a.mp4", "a.mp4"),
        (f"{bucket}/in/b/c.mkv", "b/c.mkv"),
    ]
    assert listing.num_other == 1
    assert all(source.etag and source.size_bytes for source in listing.sources)
    assert len(content_id(listing.sources[0])) == 20
    file = opener(listing.sources[0].uri)()
    assert not isinstance(file, str)
    assert file.read() == b"a.mp4"
