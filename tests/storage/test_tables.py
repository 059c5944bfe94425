import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import rows
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store

SCHEMA = pa.schema([("n", pa.int64())])


def batches(sizes: list[int]) -> list[pa.Table]:
    start = [sum(sizes[:i]) for i in range(len(sizes))]
    return [pa.table({"n": range(s, s + size)}, schema=SCHEMA) for s, size in zip(start, sizes, strict=True)]


def test_every_dataset_opens_in_pandas_before_there_are_rows(tmp_path: Path) -> None:
    tables.create(Store(str(tmp_path)), keep_biometrics=True)
    for name, schema in (rows.DATASETS | rows.BIOMETRIC_DATASETS).items():
        assert pd.read_parquet(tmp_path / name).columns.tolist() == schema.names


def test_the_schema_carries_its_version_and_units(tmp_path: Path) -> None:
    tables.create(Store(str(tmp_path)), keep_biometrics=False)
    schema = pq.read_schema(tmp_path / "detections" / tables.SCHEMA_FILE)
    assert schema.metadata[b"rollcall.schema"] == rows.SCHEMA_VERSION.encode()
    assert schema.field("bb_xmin").metadata[b"unit"] == b"px"


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 0, 7], [4, 4, 2]])
def test_the_bytes_depend_on_the_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 4)
    store = Store(str(tmp_path))
    assert (
        tables.write(store, "one", SCHEMA, batches([10])) == tables.write(store, "many", SCHEMA, batches(sizes)) == 10
    )
    assert store.read("one") == store.read("many")
    assert pq.ParquetFile(tmp_path / "many").num_row_groups == 3


def test_a_column_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected columns"):
        tables.write(Store(str(tmp_path)), "x", SCHEMA, [pa.table({"n": [1], "m": [1]})])


def test_the_csv_has_the_seeds_header_whole_pixels_and_line_ends(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    row = dict.fromkeys(rows.DATASETS["detections"].names) | {"frame_num": 3, "person_id": 1, "interpolated": False}
    row |= {"bb_xmin": 10.4, "bb_ymin": 20.5, "bb_height": 5.2, "bb_width": 0.1}
    row |= {"age_min": -1, "age_max": -1, "age_actual": -1, "gender": "N"}
    tables.write_rows(store, "detections/v.parquet", rows.DATASETS["detections"], [row])
    tables.write_csv(store, "v", "csv/a.mp4.csv")
    expected = f"{rows.CSV_HEADER}\n3,1,10,20,6,1,-1,-1,-1,N\n"
    assert (tmp_path / "csv" / "a.mp4.csv").read_bytes() == expected.encode()


def source(uri: str, name: str, named_by: str = "/in") -> Source:
    return Source(uri=uri, name=name, named_by=named_by, size_bytes=1, etag="e")


def listing(root: str, *sources: Source) -> Listing:
    return Listing(sources, 0, (root,))


def test_two_sources_of_one_name_have_two_csvs_and_keep_them(tmp_path: Path) -> None:
    index = OutputIndex(Store(str(tmp_path)))
    index.name_sources(listing("/in", source("/in/x/a.mp4", "a.mp4"), source("/in/y/a.mp4", "a.mp4")))
    index.save_sources()
    again = OutputIndex.load(index.store)
    again.name_sources(listing("/in", source("/in/y/a.mp4", "a.mp4")))
    assert {uri: row["csv"] for uri, row in again.sources.items()} == {
        "/in/x/a.mp4": "csv/a.mp4.csv",
        "/in/y/a.mp4": "csv/a.mp4.2.csv",
    }


def test_what_a_folder_no_longer_holds_is_not_current_and_others_are_left_alone(tmp_path: Path) -> None:
    index = OutputIndex(Store(str(tmp_path)))
    index.name_sources(listing("/in", source("/in/a.mp4", "a.mp4"), source("/in/b.mp4", "b.mp4")))
    index.name_sources(listing("/else", source("/else/c.mp4", "c.mp4", "/else")))
    index.name_sources(listing("/in", source("/in/b.mp4", "b.mp4")))
    assert {uri: row["current"] for uri, row in index.sources.items()} == {
        "/in/a.mp4": False,
        "/in/b.mp4": True,
        "/else/c.mp4": True,
    }


def test_an_id_is_remembered_while_the_file_looks_the_same(tmp_path: Path) -> None:
    index = OutputIndex(Store(str(tmp_path)))
    index.name_sources(listing("/in", source("/in/a.mp4", "a.mp4")))
    index.set_source("/in/a.mp4", video_id="v1")
    assert index.known_id(source("/in/a.mp4", "a.mp4")) == "v1"
    assert index.known_id(Source(uri="/in/a.mp4", name="a.mp4", named_by="/in", size_bytes=2, etag="e")) is None
    assert index.known_id(Source(uri="/in/a.mp4", name="a.mp4", named_by="/in", size_bytes=1, etag="f")) is None


def test_a_file_named_outright_still_belongs_to_its_folder_and_an_emptied_folder_is_noticed(tmp_path: Path) -> None:
    index = OutputIndex(Store(str(tmp_path)))
    index.name_sources(listing("/in", source("/in/a.mp4", "a.mp4")))
    index.name_sources(listing("/in/b.mp4", source("/in/b.mp4", "b.mp4", "/in/b.mp4")))
    index.name_sources(listing("/in/a.mp4", source("/in/a.mp4", "a.mp4", "/in/a.mp4")))
    assert all(row["current"] for row in index.sources.values())
    index.name_sources(listing("/input"))
    assert all(row["current"] for row in index.sources.values())
    index.name_sources(listing("/in"))
    assert not any(row["current"] for row in index.sources.values())


def test_a_file_that_is_given_up_at_its_end_is_not_completed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), io.BytesIO() as file, tables.RowWriter(file, SCHEMA, 10) as writer:
        monkeypatch.setattr(writer, "end", interrupted)
    assert not writer._writer.is_open
