"""Turn Arrow columns into numpy arrays, and numpy arrays into Arrow columns.

A source of columns is a table or an array of structs, such as the detections of a chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised

Source: TypeAlias = pa.Table | pa.StructArray

# --- from Arrow to numpy ---------------------------------------------------------------------------------------------


def items_of(chunk: pa.Table, name: str) -> pa.StructArray:
    """Return the items of a list column in a table of one row."""
    return chunk[name].combine_chunks().flatten()


def integers(source: Source, name: str, null: int | None = None) -> NDArray[np.int64]:
    """Return a column as (N,) int64. `null` replaces missing values. It is needed only where there may be some."""
    column = _column(source, name)
    column = column if null is None else column.fill_null(null)
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def reals(source: Source, name: str) -> NDArray[np.float64]:
    """Return a column as (N,) float64, with nan for null."""
    return _column(source, name).cast(pa.float64()).to_numpy(zero_copy_only=False)


def flags(source: Source, name: str) -> NDArray[np.bool_]:
    """Return a column as (N,) bool, with False for null."""
    return _column(source, name).fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)


def texts(source: Source, name: str) -> NDArray[np.str_]:
    """Return a column without nulls as (N,) str."""
    return np.array(_column(source, name).to_pylist(), np.str_)


def vectors(source: Source, name: str, size: int) -> NDArray[np.float32]:
    """Return a column of lists of `size` numbers as (N, size) float32."""
    column = _column(source, name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, size)


def vectors_or_nan(source: Source, name: str, size: int) -> NDArray[np.float32]:
    """Return a column of lists of `size` numbers as (N, size) float32, with nan for null."""
    column = _column(source, name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers = np.full((len(column), size), np.nan, np.float32)
    given = column.is_valid().to_numpy(zero_copy_only=False)
    if given.any():
        numbers[given] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    return numbers


def boxes(source: Source) -> NDArray[np.float32]:
    """Return the column `box` as (N, 4) float32, xyxy."""
    return vectors(source, "box", 4)


def unit_vectors(structs: pa.StructArray) -> NDArray[np.float32] | None:
    """Return the column `embedding` as (N, D) unit vectors, zero where there is none. Return None if all are
    missing."""
    embeddings = structs.field("embedding")
    has_embedding = embeddings.is_valid().to_numpy(zero_copy_only=False)
    if not has_embedding.any():
        return None
    present = embeddings.filter(pa.array(has_embedding))
    codes = np.frombuffer(b"".join(present.field("codes").to_pylist()), np.int8).reshape(len(present), -1)
    result = np.zeros((len(has_embedding), codes.shape[1]), np.float32)
    result[has_embedding] = Quantised(codes, present.field("scale").to_numpy(zero_copy_only=False)).vectors()
    return result


def _column(source: Source, name: str) -> pa.Array | pa.ChunkedArray:
    return source[name] if isinstance(source, pa.Table) else source.field(name)


# --- from numpy to Arrow ---------------------------------------------------------------------------------------------


def make_table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Return a table of `schema` from Arrow arrays, numpy arrays and lists."""

    def column(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        values = columns[field.name]
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            return values.cast(field.type)
        return pa.array(values, field.type)

    return pa.table([column(field) for field in schema], schema=schema)


def structs(kind: pa.StructType, columns: Mapping[str, Any], num_items: int) -> pa.StructArray:
    """Return items of `kind` from its fields, as arrays or lists. Fields without a column are null."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    arrays = [columns.get(field.name, pa.nulls(num_items, field.type)) for field in fields]
    return pa.StructArray.from_arrays(
        [
            array if isinstance(array, pa.Array) else pa.array(array, field.type)
            for array, field in zip(arrays, fields, strict=True)
        ],
        fields=fields,
    )


def with_columns(items: pa.StructArray, **columns: pa.Array) -> pa.StructArray:
    """Return `items` with the fields in `columns` replaced."""
    fields = [items.type.field(index) for index in range(items.type.num_fields)]
    arrays = [columns.get(field.name, items.field(field.name)) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def reals_or_null(values: NDArray[np.floating], kind: pa.DataType | None = None) -> pa.Array:
    """Return a column of numbers in which nan is null."""
    return pa.array(values, kind, mask=np.isnan(values))


def ids_or_null(values: NDArray[np.int64]) -> pa.Array:
    """Return a column of ids. Ids count from 1, and 0 becomes null."""
    return pa.array(values, mask=values == 0)


def as_list(structs: pa.Array) -> pa.ListArray:
    """Return a list column of one row that holds all items."""
    return pa.ListArray.from_arrays(pa.array([0, len(structs)], pa.int32()), structs)


def vector_column(numbers: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return a column of N lists of fixed size from (N, D) float32 numbers."""
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel(), pa.float32()), numbers.shape[1])


def vectors_or_null(numbers: NDArray[np.floating], kind: pa.DataType) -> pa.Array:
    """Return a column of lists of `kind` from (N, D) numbers. Rows of nan become null."""
    given = np.isfinite(numbers).all(axis=1)
    places = pa.array(np.where(given, np.cumsum(given) - 1, 0), pa.int64(), mask=~given)
    return lists(numbers[given]).take(places).cast(kind)


def lists(numbers: NDArray[Any]) -> pa.ListArray:
    """Return a column of N lists from (N, D) numbers."""
    offsets = pa.array(np.arange(len(numbers) + 1) * numbers.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(numbers).ravel()))


def embedding_column(count: int, places: NDArray[np.int64], embeddings: Quantised) -> pa.StructArray:
    """Return a column of `count` embeddings (rows.VECTOR). The (N,) `places` hold the N `embeddings`, and all others
    are null."""
    is_null = np.ones(count, bool)
    is_null[places] = False
    order = np.argsort(places, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.where(is_null, 0, embeddings.codes.shape[1]))]).astype(np.int32)
    codes = np.ascontiguousarray(embeddings.codes[order])
    scales = np.zeros(count, np.float32)
    scales[places] = embeddings.scales
    return pa.StructArray.from_arrays(
        [
            pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(codes)]),
            pa.array(scales),
        ],
        fields=list(rows.VECTOR),
        mask=pa.array(is_null),
    )


def extend_each(chunks: pa.Table, core: Callable[[pa.Table], dict[str, pa.Array]], adds: pa.Schema) -> pa.Table:
    """Apply `core`, which returns the items of each added column for one chunk, to every row."""
    columns: dict[str, list[pa.Array]] = {name: [] for name in adds.names}
    for index in range(chunks.num_rows):
        for name, added in core(chunks.slice(index, 1)).items():
            columns[name].append(as_list(added))
    return pa.table([pa.chunked_array(columns[field.name], field.type) for field in adds], schema=adds)


def no_rows(schema: pa.Schema) -> pa.Table:
    """Return a table without rows. pyarrow's own `Schema.empty_table` imports pandas, which takes a second."""
    return pa.Table.from_batches([], schema)


def mask(values: Sequence[bool]) -> pa.Array:
    """Return flags as a column. `pyarrow.array` would import pandas, too."""
    packed = np.packbits(np.array(values, np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed)])


def text_column(texts: Sequence[str]) -> pa.Array:
    """Return texts as a column. `pyarrow.array` would import pandas, too."""
    contents = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, contents)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(contents), pa.py_buffer(offsets), pa.py_buffer(b"".join(contents)))


def repeated(text: str, count: int) -> pa.Array:
    """Return a column that holds `text` so many times. `pyarrow.repeat` would import pandas, too."""
    content = text.encode()
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(content))
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(content * count))
