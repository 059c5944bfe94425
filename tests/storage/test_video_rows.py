"""The rows of `videos` are read with few requests, and the cache of them never changes what is read."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import rows
from pipeline.storage import records, tables, video_rows
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from tests.s3_proxy import S3Proxy, fill

BLANK = dict.fromkeys(rows.DATASETS["videos"].names)


def video(number: int, reason: str = "") -> records.Row:
    video_id = f"{number * 2654435761 % (1 << 80):020x}"[::-1]
    return BLANK | {"video_id": video_id, "uri": f"/in/{number}.mp4", "status": "quarantined", "reason": reason}


def plainly(store: Store) -> dict[str, records.Row]:
    """Read the rows without any cache."""
    return {row["video_id"]: row for row in tables.read(store, "videos").to_pylist()}


CHANGES = st.one_of(
    st.tuples(st.sampled_from(["write", "hide", "delete"]), st.integers(0, 5), st.sampled_from(["", "a", "b"])),
    st.tuples(st.sampled_from(["refresh", "lose", "tear", "spoil", "restore"]), st.integers(0, 40), st.just("")),
)


@settings(max_examples=60)
@given(st.lists(CHANGES, max_size=25))
def test_a_lost_old_or_torn_cache_changes_no_row(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, str]]
) -> None:
    store = Store(str(tmp_path_factory.mktemp("out")))
    old = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_rows, "FRESH_ENOUGH", 0)
        for change, number, reason in changes:
            name = f"videos/{video(number)['video_id']}.parquet"
            content = store.read(video_rows.CACHE) if store.exists(video_rows.CACHE) else b""
            if change == "write":
                records.write_video(store, video(number, reason))
            elif change == "hide":
                records.hide_video(store, video(number)["video_id"])
            elif change == "delete":
                store.delete(name)
            elif change == "refresh":
                video_rows.refresh(store)
                old = content or old
            elif change == "lose":
                store.delete(video_rows.CACHE)
            elif change == "restore" and old:
                store.put(video_rows.CACHE, old)
            elif change == "tear" and content:
                store.put(video_rows.CACHE, content[: len(content) * number // 41])
            elif change == "spoil" and content:
                at = len(content) * number // 41
                store.put(video_rows.CACHE, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert OutputIndex.load(store).videos == plainly(store)


def test_the_cache_spares_the_files_that_it_has(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    tables.create(store, keep_biometrics=False)
    for number in range(30):
        records.write_video(store, video(number))
    assert video_rows.read(store).num_read == 31  # with the file of the schema
    video_rows.refresh(store)
    assert video_rows.read(store).num_read == 0
    records.write_video(store, video(7, "anew"))
    assert video_rows.read(store).num_read == 1
    assert OutputIndex.load(store).videos[video(7)["video_id"]]["reason"] == "anew"


def test_small_outputs_have_no_cache(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    records.write_video(store, video(1))
    video_rows.refresh(store)
    assert store.names("") == [f"videos/{video(1)['video_id']}.parquet"]


def archive(proxy: S3Proxy, num_videos: int) -> Store:
    """Return an output of so many videos with a cache. It is put into the memory of the server, which is fast."""
    store = Store(f"{proxy.bucket}/out")
    tables.create(store, keep_biometrics=False)
    contents = {}
    for number in range(num_videos):
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([video(number)], rows.DATASETS["videos"]), content)
        contents[f"videos/{video(number)['video_id']}.parquet"] = content.getvalue()
    fill(store, contents)
    over_http = Store.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "read", lambda self, name: contents.get(name) or over_http(self, name))
        OutputIndex.load(store, refreshes=True).save_sources()
    return store


@pytest.mark.parametrize("num_videos", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_output_of_any_size_is_opened_with_twenty_requests(num_videos: int, s3_proxy: S3Proxy) -> None:
    store = archive(s3_proxy, num_videos)
    records.write_video(store, video(3, "another writer was here"))
    s3_proxy.requests.clear()
    videos = OutputIndex.open(store.uri).videos
    assert s3_proxy.requests.total() <= 20, s3_proxy.requests  # 17 lists, the cache, the sources and the changed row
    assert len(videos) == num_videos
    assert videos[video(3)["video_id"]]["reason"] == "another writer was here"
