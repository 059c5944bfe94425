"""An object store instead of a disk gives the same reduction and the same bytes, and pandas reads them in one call."""

from pathlib import Path

import pandas as pd
import s3fs

from jobs.relink import relink
from pipeline.rows import VIDEO_TABLES
from pipeline.storage.content_ids import content_id
from pipeline.storage.listing import list_sources
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store, opener
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
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
    assert list(OutputIndex.load(remote).videos) == ["v"]


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


ODD_KEYS = (
    "a::b.jpg",
    "../../../escape.jpg",
    "x/../plain.jpg",
    "./dot.jpg",
    "/double.jpg",
    "cam #1/a?b 50%25.jpg",
    "st*r[1].jpg",
    "tab\t.jpg",
    "back\\slash.jpg",
)


def put(bucket: str, *keys: str) -> None:
    fs = s3fs.S3FileSystem()
    for key in keys:
        fs.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=key, Body=key.encode())
    fs.invalidate_cache()


def test_every_key_is_read_as_it_stands_and_named_below_the_output(bucket: str, tmp_path: Path) -> None:
    put(bucket, *(f"in/{key}" for key in ODD_KEYS), "in/plain.jpg", "in/day/")
    listing = list_sources([f"{bucket}/in"], str(tmp_path / "out"))
    assert {source.uri for source in listing.sources} == {f"{bucket}/in/{key}" for key in (*ODD_KEYS, "plain.jpg")}
    for source in listing.sources:
        file = opener(source.uri)()
        assert not isinstance(file, str)
        assert file.read() == source.uri.removeprefix(f"{bucket}/").encode()
        assert len(content_id(source)) == 20
        (same,) = list_sources([source.uri], "/nowhere").sources
        assert (same.uri, same.size_bytes) == (source.uri, source.size_bytes)
    for place in (str(tmp_path / "out"), f"{bucket}/out"):
        index = OutputIndex(Store(place))
        index.name_sources(listing)
        for row in index.sources.values():
            index.store.put(row["csv"], row["uri"].encode())
        assert {index.store.read(row["csv"]) for row in index.sources.values()} == {
            source.uri.encode() for source in listing.sources
        }
        assert sorted(index.store.names("csv")) == sorted(row["csv"] for row in index.sources.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_prefix_that_is_an_object_as_well_is_both_or_a_mark(bucket: str) -> None:
    put(bucket, "in", "in/a.mp4", "mark/a.mp4", "a.mp4", "a.mp4/b.mp4")
    Store(f"{bucket}").put("mark", b"")

    def keys(named: str) -> list[str]:
        sources = list_sources([f"{bucket}/{named}"], "/nowhere").sources
        return [source.uri.removeprefix(f"{bucket}/") for source in sources]

    assert keys("in") == ["in", "in/a.mp4"]
    assert keys("mark") == ["mark/a.mp4"]
    assert keys("a.mp4") == ["a.mp4"]


def test_a_key_that_would_be_read_as_the_version_of_another_is_told_apart(bucket: str) -> None:
    put(bucket, "in/a.mp4", "in/a.mp4?versionId=1.mp4")
    reasons = {source.name: source.missing for source in list_sources([f"{bucket}/in"], "/nowhere").sources}
    assert reasons == {"a.mp4": None, "a.mp4?versionId=1.mp4": "its key holds ?versionId="}


def test_names_that_look_like_patterns_are_moved_and_removed_alone(bucket: str) -> None:
    store, beside = Store(f"{bucket}/out*"), Store(f"{bucket}/out-of-others")
    beside.put("a/kept", b"")
    store.put("a/take[1].csv", b"1")
    store.move("a/take[1].csv", "b/take[1].csv")
    assert store.names("") == ["b/take[1].csv"]
    store.delete_tree("b")
    store.delete_tree("a")
    assert (store.names(""), beside.names("")) == ([], ["a/kept"])
