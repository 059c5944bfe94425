"""An object store instead of a disk gives the same reduction and the same bytes, and pandas reads them in one call."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import s3fs

from jobs.forget import forget
from jobs.relink import relink
from pipeline.errors import PassingError, UserError
from pipeline.rows import VIDEO_TABLES
from pipeline.storage import faults, object_pages
from pipeline.storage.compaction import compact_output
from pipeline.storage.content_ids import content_id
from pipeline.storage.listing import list_sources, open_listing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.source_files import opener
from pipeline.storage.sources import Listing
from pipeline.storage.store import Store
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import Film, Walker, job, publish
from tests.s3_proxy import S3Proxy, fill

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


def test_a_person_is_forgotten_on_a_prefix_as_in_a_folder(bucket: str, tmp_path: Path) -> None:
    for place in (f"{bucket}/out", str(tmp_path)):
        publish(FILM, [1, 3], place, "biometrics.keep=true")
        publish(FILM, [], place, video_id="wwww")
        compact_output(Store(place))
        forget(place, ["v:2"])
        forget(place, videos=["wwww"])
    remote, local = Store(f"{bucket}/out"), Store(str(tmp_path))

    def names(store: Store) -> list[str]:
        return [name for name in store.names("") if not name.startswith(("compact/", "_lease/"))]

    assert names(remote) == names(local)
    assert [name for name in names(local) if remote.read(name) != local.read(name)] == []
    assert set(pd.read_parquet(f"{bucket}/out/detections").person_id) == {1}
    (generation,) = remote.folders("compact")
    assert set(pd.read_parquet(f"{bucket}/out/compact/{generation}/detections").person_id) == {1}


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


def listed(proxy: S3Proxy, name: str, lines: Sequence[str]) -> Listing:
    Store(proxy.bucket).put(name, "\n".join(lines).encode())
    proxy.requests.clear()
    return list_sources([f"@{proxy.bucket}/{name}"], f"{proxy.bucket}/out")


@pytest.mark.parametrize("start", ["", "in/", "absolute"])
def test_a_list_of_a_thousand_lines_takes_twenty_requests(s3_proxy: S3Proxy, start: str) -> None:
    start = f"{s3_proxy.bucket}/in/" if start == "absolute" else start
    folder = "in" if not start else ""
    fill(Store(s3_proxy.bucket), {f"in/{i:04d}.mp4": str(i).encode() for i in range(998)})
    names = [f"{start}{i:04d}.mp4" for i in range(1_000)]
    listing = listed(s3_proxy, f"{folder}/list.txt".lstrip("/"), names)
    assert s3_proxy.requests.total() <= 20, s3_proxy.requests
    assert [source.uri.rpartition("/")[2] for source in listing.sources if source.missing] == ["0998.mp4", "0999.mp4"]
    assert len({source.etag for source in listing.sources}) == 999
    plain = list_sources([f"{s3_proxy.bucket}/in"], f"{s3_proxy.bucket}/out")
    facts = [(source.uri, source.size_bytes, source.etag) for source in listing.sources if not source.missing]
    assert facts == [
        (source.uri, source.size_bytes, source.etag) for source in plain.sources if "list" not in source.uri
    ]


def test_a_pattern_takes_no_request_for_each_match(s3_proxy: S3Proxy) -> None:
    fill(Store(s3_proxy.bucket), {f"in/{i:02d}.mp4": str(i).encode() for i in range(40)} | {"in/x.mp4/y.mp4": b"y"})
    s3_proxy.requests.clear()
    listing = list_sources([f"{s3_proxy.bucket}/in/*.mp4"], f"{s3_proxy.bucket}/out")
    assert len(listing.sources) == 41
    assert s3_proxy.requests.total() <= 5, s3_proxy.requests


def test_a_whole_listing_leaves_no_question_about_its_objects(s3_proxy: S3Proxy) -> None:
    fill(Store(s3_proxy.bucket), {f"in/{i}/{i}.mp4": str(i).encode() for i in range(8)})
    sources = list_sources([f"{s3_proxy.bucket}/in"], f"{s3_proxy.bucket}/out").sources
    s3_proxy.requests.clear()
    assert len({content_id(source) for source in sources}) == 8
    assert s3_proxy.requests == {"GET": 8}


@pytest.mark.parametrize(("fault", "expected"), [("403", UserError), ("503", PassingError)])
def test_a_later_page_that_fails_ends_the_reading(
    fault: str, expected: type[Exception], s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_pages, "PAGE_KEYS", 2)
    monkeypatch.setattr(faults, "PATIENCE_S", 0)
    fill(Store(s3_proxy.bucket), {f"in/{i}.mp4": str(i).encode() for i in range(5)})
    listing = open_listing([f"{s3_proxy.bucket}/in"], "/nowhere")
    s3_proxy.rule = lambda request: fault if request.verb == "LIST" else None
    names = []
    with pytest.raises(expected):
        names += [source.name for source in listing]
    assert not listing.is_complete
    assert len(listing.so_far().sources) == 2


def test_sizes_and_etags_in_a_list_are_believed(s3_proxy: S3Proxy) -> None:
    lines = ["uri,size,etag", f"{s3_proxy.bucket}/out/a.mp4,1,e"]
    lines += [f'in/{i}.mp4,{i},"""e{i}"""' for i in range(1_000)]
    listing = listed(s3_proxy, "list.csv", lines)
    assert s3_proxy.requests.total() <= 2, s3_proxy.requests
    assert len(listing.sources) == 1_000  # one lies in the output
    one = next(source for source in listing.sources if source.uri == f"{s3_proxy.bucket}/in/17.mp4")
    assert (one.size_bytes, one.etag, one.name) == (17, "e17", "17.mp4")
    with pytest.raises(UserError, match=r"size of in/a.mp4 must be whole numbers of bytes, got '1.5'"):
        listed(s3_proxy, "wrong.csv", ["uri,size,etag", "in/a.mp4,1.5,e"])


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
