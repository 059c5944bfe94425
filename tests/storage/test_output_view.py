"""A view has every finished video once and whole, whatever a snapshot holds and whatever is written meanwhile."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import rows
from pipeline.errors import UserError
from pipeline.storage import records
from pipeline.storage.compaction import compact_output
from pipeline.storage.output_view import OutputView
from pipeline.storage.snapshots import CONTENTS
from pipeline.storage.store import Store
from tests.small_outputs import publish_steps, write_output

IDS = [f"v{number:04d}" for number in range(6)]


def publish(store: Store, video_id: str, version: int) -> None:
    for _ in publish_steps(store, video_id, version):
        pass


def versions(view: OutputView) -> dict[str, float]:
    """Return the version of each video, after checking that every row of it has that version."""
    by_video = {row["video_id"]: row["duration_s"] for row in view.read("videos").to_pylist()}
    for dataset, column in (("persons", "age"), ("detections", "score")):
        pairs = [(row["video_id"], row[column]) for row in view.read(dataset).to_pylist()]
        assert sorted(pairs) == sorted(by_video.items()), dataset
    return by_video


def test_the_rows_are_the_same_with_and_without_a_snapshot(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    before = {name: OutputView.open(str(tmp_path)).read(name) for name in rows.VIDEO_TABLES}
    compact_output(store)
    view = OutputView.open(str(tmp_path))
    for name, table in before.items():
        assert view.read(name).equals(table), name


def test_a_video_of_the_snapshot_is_read_from_it(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    for path in tmp_path.glob("persons/v*.parquet"):
        path.unlink()
    assert len(OutputView.open(str(tmp_path)).read("persons")) == len(IDS)


def test_what_was_published_after_the_snapshot_comes_from_the_files_of_its_videos(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    publish(store, "v0002", 7)
    publish(store, "w", 3)
    assert versions(OutputView.open(str(tmp_path))) == dict.fromkeys(IDS, 0.0) | {"v0002": 7.0, "w": 3.0}


def test_a_video_that_is_being_replaced_or_was_removed_is_in_no_table(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    records.hide_video(store, "v0001")
    store.delete("videos/v0003.parquet")
    assert versions(OutputView.open(str(tmp_path))).keys() == set(IDS) - {"v0001", "v0003"}


def test_a_quarantined_video_has_a_row_of_videos_and_no_other(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS[:2])
    compact_output(store)
    records.write_video(store, records.quarantined_row("v0001", "/in/b.mp4", "c", "probe", "no video"))
    view = OutputView.open(str(tmp_path))
    assert view.read("videos")["status"].to_pylist() == ["done", "quarantined"]
    assert view.read("persons")["video_id"].to_pylist() == ["v0000"]


def test_a_video_that_is_replaced_after_the_view_was_opened_is_refused(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    view = OutputView.open(str(tmp_path))
    publish(store, "v0004", 9)
    with pytest.raises(UserError, match=r"/in/v0004\.mp4 has been processed again"):
        view.read("persons")
    assert len(view.read("persons", ["v0001"])) == 1


def test_a_part_that_lacks_rows_is_not_believed(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    name = compact_output(store).snapshot.parts["persons"][0].name
    pq.write_table(pq.read_table(tmp_path / name).slice(1), tmp_path / name)
    assert versions(OutputView.open(str(tmp_path))) == dict.fromkeys(IDS, 0.0)


@pytest.mark.parametrize("harm", ["pointer", "contents", "part"])
def test_a_damaged_snapshot_costs_time_and_no_row(tmp_path: Path, harm: str) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    snapshot = compact_output(store).snapshot
    part = snapshot.parts["persons"][0].name
    name = {"pointer": "compact/current.json", "contents": f"{snapshot.folder}/{CONTENTS}", "part": part}[harm]
    store.put(name, b"{")
    assert versions(OutputView.open(str(tmp_path))) == dict.fromkeys(IDS, 0.0)


def test_a_snapshot_that_is_removed_after_the_view_was_opened_costs_no_row(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    view = OutputView.open(str(tmp_path))
    store.delete_tree("compact")
    assert versions(view) == dict.fromkeys(IDS, 0.0)


def test_a_video_with_a_damaged_table_is_left_out_and_named(tmp_path: Path) -> None:
    store = write_output(Store(str(tmp_path)), IDS)
    store.put("persons/v0005.parquet", b"no parquet")
    view = OutputView.open(str(tmp_path))
    assert view.read("persons")["video_id"].to_pylist() == IDS[:5]
    assert list(view.left_out) == ["v0005"]


def test_a_filter_reads_only_the_row_groups_that_hold_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.snapshot_parts.ROWS_PER_GROUP", 2)
    store = write_output(Store(str(tmp_path)), IDS)
    compact_output(store)
    groups: list[list[int]] = []
    read = pq.ParquetFile.read_row_groups

    def noting(reader: pq.ParquetFile, numbers: list[int], *given: object, **named: object) -> pa.Table:
        groups.append(numbers)
        return read(reader, numbers, *given, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noting)
    table = OutputView.open(str(tmp_path)).read("persons", ["v0003"], ["video_id", "age"])
    assert table.to_pydict() == {"video_id": ["v0003"], "age": [0.0]}
    assert groups == [[1]]
