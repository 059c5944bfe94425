import numpy as np
import pyarrow as pa
import pytest

from pipeline import columns, rows
from pipeline.arrays import Quantised

STRUCTS = pa.array(
    [{"id": 3, "age": 4.5, "judged": True, "name": "a"}, {"id": None, "age": None, "judged": None, "name": "b"}]
)
TABLE = pa.concat_tables([pa.Table.from_struct_array(STRUCTS[:1]), pa.Table.from_struct_array(STRUCTS[1:])])
SOURCES = pytest.mark.parametrize("source", [STRUCTS, TABLE], ids=["structs", "table"])


@SOURCES
def test_columns_of_tables_and_structs_become_arrays(source: columns.Source) -> None:
    assert columns.integers(source, "id", null=-1).tolist() == [3, -1]
    ages = columns.reals(source, "age")
    assert ages.dtype == np.float64
    assert np.array_equal(ages, [4.5, np.nan], equal_nan=True)
    assert columns.flags(source, "judged").tolist() == [True, False]
    assert columns.texts(source, "name").tolist() == ["a", "b"]


@pytest.mark.parametrize("count", [0, 3])
def test_boxes_come_back_as_they_were_written(count: int) -> None:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    structs = columns.structs(pa.struct([("box", rows.BOX)]), {"box": columns.vector_column(boxes)}, count)
    assert columns.boxes(structs).tolist() == boxes.tolist()
    assert columns.boxes(pa.Table.from_struct_array(structs)).tolist() == boxes.tolist()


def test_embeddings_stand_at_their_places_and_all_others_are_null() -> None:
    quantised = Quantised.of(np.array([[0, 3.0], [2.0, 0]], np.float32))
    embeddings = columns.embedding_column(4, np.array([2, 0]), quantised)
    assert embeddings.is_null().to_pylist() == [False, True, False, True]
    structs = pa.StructArray.from_arrays([embeddings], names=["embedding"])
    vectors = columns.unit_vectors(structs)
    assert vectors is not None
    assert vectors.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_without_any_embedding_there_are_no_vectors() -> None:
    nothing = Quantised(np.zeros((0, 0), np.int8), np.zeros(0, np.float32))
    embeddings = columns.embedding_column(3, np.zeros(0, np.int64), nothing)
    assert len(embeddings) == 3
    structs = pa.StructArray.from_arrays([embeddings], names=["embedding"])
    assert columns.unit_vectors(structs) is None


def test_a_list_column_of_one_row_gives_its_items_back() -> None:
    table = pa.table({"faces": columns.as_list(STRUCTS)})
    assert len(table) == 1
    assert columns.items_of(table, "faces").equals(STRUCTS)


def test_fields_without_a_column_are_null_and_fields_can_be_replaced() -> None:
    kind = pa.struct([("a", pa.int32()), ("b", pa.float32())])
    structs = columns.structs(kind, {"a": np.array([1, 2])}, 2)
    assert structs.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": None}]
    replaced = columns.with_columns(structs, b=columns.reals_or_null(np.array([np.nan, 0.5]), pa.float32()))
    assert replaced.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": 0.5}]


def test_a_table_has_the_types_of_its_schema() -> None:
    schema = pa.schema([("tracklet_id", pa.int64()), ("vector", pa.list_(pa.float32()))])
    made = {"vector": columns.lists(np.eye(2, dtype=np.float32)), "tracklet_id": columns.ids_or_null(np.array([0, 7]))}
    table = columns.make_table(schema, made)
    assert table.schema == schema
    assert table.to_pylist() == [{"tracklet_id": None, "vector": [1, 0]}, {"tracklet_id": 7, "vector": [0, 1]}]


@pytest.mark.parametrize("values", [[], [True], [False, True] * 9 + [True]])
def test_a_mask_holds_its_flags(values: list[bool]) -> None:
    assert columns.mask(values).to_pylist() == values


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_text_is_repeated(count: int) -> None:
    assert columns.repeated("käse", count).to_pylist() == ["käse"] * count
