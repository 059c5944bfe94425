"""Columns of a chunk's row as numpy arrays, and the way back. A row holds a list of items in each of its columns."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import rows
from pipeline.arrays import Quantised


def extend_each(chunks: pa.Table, core: Callable[[pa.Table], dict[str, pa.Array]], adds: pa.Schema) -> pa.Table:
    """Apply `core`, which returns the items of each added column for one chunk, to every row."""
    columns: dict[str, list[pa.Array]] = {name: [] for name in adds.names}
    for index in range(chunks.num_rows):
        for name, added in core(chunks.slice(index, 1)).items():
            columns[name].append(as_list(added))
    return pa.table([pa.chunked_array(columns[field.name], field.type) for field in adds], schema=adds)


def as_list(items: pa.Array) -> pa.ListArray:
    """Return a column of one row, which holds all `items`."""
    return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)


def items_of(chunk: pa.Table, name: str) -> pa.StructArray:
    """Return the items of a list column in a table of one row."""
    return chunk[name].combine_chunks().flatten()


def integers(items: pa.StructArray, name: str) -> NDArray[np.int64]:
    """Return a field of N items as (N,)."""
    return items.field(name).to_numpy(zero_copy_only=False).astype(np.int64)


def reals(items: pa.StructArray, name: str) -> NDArray[np.float64]:
    """Return a field of N items as (N,)."""
    return items.field(name).to_numpy(zero_copy_only=False).astype(np.float64)


def flags(items: pa.StructArray, name: str) -> NDArray[np.bool_]:
    """Return a field of N items as (N,)."""
    return items.field(name).to_numpy(zero_copy_only=False).astype(bool)


def vectors(items: pa.StructArray, name: str, size: int) -> NDArray[np.float32]:
    """Return a field of N items as (N, size)."""
    return items.field(name).flatten().to_numpy(zero_copy_only=False).reshape(-1, size)


def vector_column(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return (N, size) vectors as a field of N items."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])


def embedding_column(length: int, places: NDArray[np.int64], embeddings: Quantised) -> pa.StructArray:
    """Return `length` embeddings. The (N,) `places` hold the N `embeddings`, and all others are null."""
    is_null = np.ones(length, bool)
    is_null[places] = False
    order = np.argsort(places, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.where(is_null, 0, embeddings.codes.shape[1]))]).astype(np.int32)
    codes = np.ascontiguousarray(embeddings.codes[order])
    scales = np.zeros(length, np.float32)
    scales[places] = embeddings.scales
    return pa.StructArray.from_arrays(
        [
            pa.Array.from_buffers(pa.binary(), length, [None, pa.py_buffer(offsets), pa.py_buffer(codes)]),
            pa.array(scales),
        ],
        fields=list(rows.VECTOR),
        mask=pa.array(is_null),
    )


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
    """Return `items` with other values in some fields."""
    fields = [items.type.field(index) for index in range(items.type.num_fields)]
    arrays = [columns.get(field.name, items.field(field.name)) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)
