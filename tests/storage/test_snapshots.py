"""A reader of a snapshot sees every video once and whole, whatever is written meanwhile."""

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Lock, Thread

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import rows
from pipeline.errors import PassingError, UserError
from pipeline.storage import records, snapshot_parts
from pipeline.storage.compaction import compact_output
from pipeline.storage.snapshots import Snapshot
from pipeline.storage.store import Store
from tests.interruptions import FragileStore, Killed
from tests.patience import eventually
from tests.small_outputs import encode, publish_steps, video_row, video_tables, write_output

IDS = [f"v{number:04d}" for number in range(40)]
FULL = 100
"""Bytes. A file has fewer before its first row group, and more afterwards."""
NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)


def publish(store: Store, video_id: str, version: int) -> None:
    for _ in publish_steps(store, video_id, version):
        pass


def read(place: Path) -> dict[str, float]:
    """Read the current snapshot. Return the version of each video, after checking that all its rows have it."""
    generation = json.loads((place / "compact/current.json").read_text())["generation"]
    folder = place / "compact" / generation
    versions = pq.read_table(folder / "videos", columns=["video_id", "duration_s"]).to_pylist()
    persons = pq.read_table(folder / "persons", columns=["video_id", "age"]).to_pylist()
    boxes = pq.read_table(folder / "detections", columns=["video_id", "score"]).to_pylist()
    by_video = {row["video_id"]: row["duration_s"] for row in versions}
    assert len(by_video) == len(versions)
    assert sorted(map(tuple, (row.values() for row in persons))) == sorted(by_video.items())
    assert sorted(map(tuple, (row.values() for row in boxes))) == sorted(by_video.items())
    return by_video


def files(place: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in (place / "compact").rglob("*.parquet")}


def as_read(schema: pa.Schema) -> pa.Schema:
    """Return a schema as a file tells it. Parquet has a name of its own for the items of lists."""
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file)
    return pq.read_schema(file)


def test_a_snapshot_has_every_row_sorted_by_video_with_statistics(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    snapshot = compact_output(store).snapshot
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0)
    assert snapshot.num_videos == len(IDS)
    assert set(snapshot.parts) == {*rows.VIDEO_TABLES, "videos", "sources", "sequences", "runs"}
    for name in rows.VIDEO_TABLES:
        (part,) = snapshot.parts[name]
        file = pq.ParquetFile(tmp_path / part.name)
        assert file.schema_arrow.equals(as_read(rows.DATASETS[name]), check_metadata=True)
        assert file.metadata.num_rows == part.rows == len(pd.read_parquet(tmp_path / name))
        assert (tmp_path / part.name).stat().st_size == part.bytes
    detections = pq.ParquetFile(tmp_path / snapshot.parts["detections"][0].name).metadata.row_group(0)
    assert (detections.column(0).statistics.min, detections.column(0).statistics.max) == (IDS[0], IDS[-1])
    assert detections.sorting_columns[0].column_index == 0


def test_row_groups_are_large_whatever_the_size_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_parts, "ROWS_PER_GROUP", 16)
    store = write_output(Store(str(tmp_path)), IDS)
    part = compact_output(store).snapshot.parts["persons"][0]
    metadata = pq.ParquetFile(tmp_path / part.name).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [16, 16, 8]


def test_nothing_is_written_if_nothing_changed(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    first = compact_output(store)
    before = files(tmp_path)
    again = compact_output(store)
    assert (first.is_new, again.is_new) == (True, False)
    assert files(tmp_path) == before


def test_full_parts_stay_and_only_new_and_changed_videos_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_parts, "ROWS_PER_GROUP", 4)
    store = write_output(Store(str(tmp_path)), IDS)
    first = compact_output(store, part_bytes=FULL).snapshot
    assert len(first.parts["persons"]) == 10
    publish(store, IDS[0], 1)
    publish(store, "new", 5)
    read_files: list[str] = []
    real = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name: (read_files.append(name), real(self, name))[1])
    second = compact_output(store, part_bytes=FULL)
    assert second.num_read == 2
    assert {name for name in read_files if name.startswith("persons/")} == {
        f"persons/{IDS[0]}.parquet",
        "persons/new.parquet",
    }
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0) | {IDS[0]: 1.0, "new": 5.0}
    assert second.num_copied > 9
    parts = [(tmp_path / part.name).stat().st_ino for part in second.snapshot.parts["persons"]]
    assert len({(tmp_path / part.name).stat().st_ino for part in first.parts["persons"]} & set(parts)) == 9


def test_videos_that_are_gone_or_given_up_leave_the_snapshot(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    store.delete(f"videos/{IDS[0]}.parquet")
    records.delete_tables(store, IDS[0])
    records.write_video(store, records.quarantined_row(IDS[1], "/in/x", "c", "observe", "broken"))
    records.delete_tables(store, IDS[1])
    snapshot = compact_output(store).snapshot
    assert snapshot.num_videos == len(IDS) - 2
    persons = pd.read_parquet(tmp_path / snapshot.folder / "persons")
    videos = pd.read_parquet(tmp_path / snapshot.folder / "videos")
    assert sorted(persons.video_id) == IDS[2:]
    assert sorted(videos.video_id) == IDS[1:]


def test_a_video_that_is_being_replaced_keeps_its_earlier_rows(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    steps = publish_steps(store, IDS[3], 7)
    for _ in range(6):
        next(steps)
    publish(store, "new", 1)
    compact_output(store)
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0) | {"new": 1.0}
    for _ in steps:
        pass
    compact_output(store)
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0) | {IDS[3]: 7.0, "new": 1.0}


def test_a_damaged_video_is_left_out_and_named_each_time(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    (tmp_path / "persons" / f"{IDS[5]}.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "detections" / f"{IDS[6]}.parquet").unlink()
    (tmp_path / "videos" / f"{IDS[7]}.parquet").write_bytes(b"PAR1 no")
    for _ in range(2):
        assert set(compact_output(store).left_out) == set(IDS[5:8])
        assert read(tmp_path) == {video_id: 0.0 for video_id in IDS if video_id not in IDS[5:8]}


def test_a_damaged_generation_is_not_built_upon(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    part = compact_output(store).snapshot.parts["persons"][0]
    (tmp_path / part.name).write_bytes(b"PAR1 no")
    publish(store, "new", 1)
    assert compact_output(store).num_read == len(IDS) + 1
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0) | {"new": 1.0}
    (tmp_path / Snapshot.read(store).parts["faces"][0].name).unlink()  # pyright: ignore[reportOptionalMemberAccess]
    assert compact_output(store).is_new
    (tmp_path / "compact/current.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        compact_output(store)


def test_generations_stay_for_two_days_after_their_replacement(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    made = []
    for day, version in enumerate((1, 2, 3, 4)):
        publish(store, IDS[0], version)
        made.append(compact_output(store, now=NOW + timedelta(days=day)).snapshot.generation)
    assert sorted(path.name for path in (tmp_path / "compact").iterdir() if path.is_dir()) == made[1:]
    compact_output(store, now=NOW + timedelta(days=9))
    assert [path.name for path in (tmp_path / "compact").iterdir() if path.is_dir()] == made[3:]


def test_a_kill_between_any_two_changes_leaves_the_earlier_snapshot_and_the_next_call_goes_on(tmp_path: Path) -> None:
    for changes in range(100):
        place = tmp_path / str(changes)
        store = write_output(Store(str(place)), IDS[:6])
        compact_output(store, part_bytes=FULL)
        before = read(place)
        publish(store, IDS[0], 1)
        publish(store, "new", 1)
        after = before | {IDS[0]: 1.0, "new": 1.0}
        fragile = FragileStore(str(place), changes)
        try:
            compact_output(fragile, part_bytes=FULL)
        except Killed:
            assert read(place) == before
            compact_output(store, part_bytes=FULL)
            assert read(place) == after
            continue
        assert read(place) == after
        assert changes > 8
        return
    raise AssertionError("it never ended")


class BusyStore(Store):
    """A store in which another run makes a change before each read, as long as it has changes to make."""

    other: Iterator[None] = iter(())
    lock = Lock()

    def read(self, name: str) -> bytes:
        with self.lock:  # several threads read
            next(self.other, None)
        return super().read(name)


def test_a_run_that_replaces_videos_while_they_are_read_leaves_no_mixed_video(tmp_path: Path) -> None:
    quiet = write_output(Store(str(tmp_path)), IDS)
    store = BusyStore(str(tmp_path))

    def changes() -> Iterator[None]:
        for video_id in (*IDS[::-3], "new"):
            yield from publish_steps(quiet, video_id, 1)
            read(tmp_path)

    compact_output(quiet)
    publish(quiet, IDS[1], 1)
    for video_id in IDS[2:]:
        publish(quiet, video_id, 0)
    store.other = changes()
    compact_output(store)
    next(store.other, None)
    versions = read(tmp_path)
    assert set(IDS) <= set(versions)
    for _ in store.other:
        pass
    compact_output(quiet)
    assert read(tmp_path) == dict.fromkeys(IDS, 0.0) | dict.fromkeys((IDS[1], *IDS[::-3], "new"), 1.0)


def test_a_run_that_never_stops_replacing_ends_it_with_a_failure_that_may_pass(tmp_path: Path) -> None:
    quiet = write_output(Store(str(tmp_path)), IDS[:1])
    store = BusyStore(str(tmp_path))
    store.other = (records.write_video(quiet, video_row(IDS[0], duration_s=float(number))) for number in range(10_000))
    with pytest.raises(PassingError, match="another run"):
        compact_output(store)
    assert not (tmp_path / "compact/current.json").exists()


def test_an_object_store_has_the_same_snapshots(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_parts, "ROWS_PER_GROUP", 2)
    remote, local = Store(f"{bucket}/out"), Store(str(tmp_path))
    for store in (remote, local):
        write_output(store, IDS[:6])
        compact_output(store, part_bytes=FULL, now=NOW)
        publish(store, IDS[0], 1)
        publish(store, "new", 1)
        assert compact_output(store, part_bytes=FULL, now=NOW + timedelta(days=1)).num_read == 2
        assert not compact_output(store, part_bytes=FULL, now=NOW + timedelta(days=4)).is_new
    contents = []
    for store in (remote, local):
        names = [name for name in store.names("compact") if name.endswith(".parquet") and "contents" not in name]
        assert len({name.split("/")[1] for name in names}) == 1
        contents.append({name.split("/", 2)[2]: store.read(name) for name in names})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 12


def test_a_video_made_again_with_an_equal_row_is_read_again(bucket: str) -> None:
    store = write_output(Store(f"{bucket}/out"), ["v"])
    compact_output(store)
    time.sleep(1.1)  # an object store counts whole seconds
    for name, content in video_tables("v", 5).items():
        store.put(f"{name}/v.parquet", encode(name, content))
    store.put("videos/v.parquet", store.read("videos/v.parquet"))
    snapshot = compact_output(store).snapshot
    assert pd.read_parquet(store.full(f"{snapshot.folder}/persons")).age.tolist() == [5.0]


def read_with_pandas(folder: str) -> list[str]:
    return pd.read_parquet(f"{folder}/persons").video_id.tolist()


def read_with_duckdb(folder: str) -> list[str]:
    with duckdb.connect() as database:
        return [row[0] for row in database.execute(f"SELECT video_id FROM '{folder}/persons/*.parquet'").fetchall()]


def read_with_polars(folder: str) -> list[str]:
    return pl.read_parquet(f"{folder}/persons/*.parquet")["video_id"].to_list()


def test_readers_in_a_loop_see_each_video_once_while_others_write(tmp_path: Path) -> None:
    ids = [f"v{number:05d}" for number in range(300)]
    store = write_output(Store(str(tmp_path)), ids)
    compact_output(store)
    is_over, failures, num_reads = Event(), list[BaseException](), [0]

    def loop(read_ids: Callable[[str], list[str]]) -> None:
        try:
            while not is_over.is_set():
                generation = json.loads((tmp_path / "compact/current.json").read_text())["generation"]
                seen = read_ids(f"{tmp_path}/compact/{generation}")
                assert len(seen) == len(set(seen))
                assert set(ids) <= set(seen)
                num_reads[0] += 1
        except BaseException as error:
            failures.append(error)

    def write() -> None:
        for number in range(12):
            publish(store, ids[number * 7] if number % 2 else f"new{number}", number)

    threads = [Thread(target=loop, args=[way]) for way in (read_with_pandas, read_with_duckdb, read_with_polars)]
    writer = Thread(target=write)
    for thread in (*threads, writer):
        thread.start()
    try:
        while writer.is_alive():
            with suppress(PassingError):
                compact_output(store)
            read(tmp_path)
    finally:
        writer.join()
        compact_output(store)
        eventually(lambda: failures or num_reads[0] > 3)
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(read(tmp_path)) == len(ids) + 6


def test_a_dataset_in_which_few_videos_have_a_file_is_whole(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS[:3])
    for video_id in IDS[:2]:
        store.delete(f"crossings/{video_id}.parquet")
    crossing = {"video_id": IDS[2], "person_id": 1, "line": "door", "direction": "in", "time_s": 1.0}
    store.put(f"crossings/{IDS[2]}.parquet", encode("crossings", [crossing]))
    snapshot = compact_output(store).snapshot
    assert (snapshot.num_videos, snapshot.num_rows("crossings")) == (3, 1)


def test_a_snapshot_of_a_version_without_a_dataset_is_the_base_of_the_next(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS[:3])
    for video_id in IDS[:3]:
        store.delete(f"crossings/{video_id}.parquet")
    pointer, folder = tmp_path / "compact/current.json", compact_output(store, now=NOW).snapshot.folder
    facts = json.loads(pointer.read_text())
    del facts["tables"]["crossings"]
    pointer.write_text(json.dumps(facts))
    contents = tmp_path / folder / "contents.parquet"
    table = pq.read_table(contents)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("crossings")]), contents)
    after = compact_output(store, now=NOW + timedelta(hours=1))
    assert (after.snapshot.num_videos, after.snapshot.num_rows("crossings"), after.num_read) == (3, 0, 0)
    assert read(tmp_path) == dict.fromkeys(IDS[:3], 0.0)
