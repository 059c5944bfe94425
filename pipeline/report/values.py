"""Columns of tables as numpy arrays. pyarrow's own conversion imports pandas, which takes long."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column of float64 as (N,) float64, with nan for null."""
    column = table[name].combine_chunks()
    return np.where(_is_valid(column), _stored(column, np.float64), np.nan)


def integers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of int64 as (N,) int64, with 0 for null."""
    column = table[name].combine_chunks()
    return np.where(_is_valid(column), _stored(column, np.int64), 0)


def flags(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """Return a column of bool as (N,) bool, with False for null."""
    column = table[name].combine_chunks()
    return _bits(column, column.buffers()[1]) & _is_valid(column)


def places(table: pa.Table, name: str, place_of: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the place of each text of a column without nulls: (N,) int64, -1 for a text that has none."""
    encoded = table[name].combine_chunks().dictionary_encode()
    known = np.array([place_of.get(text, -1) for text in encoded.dictionary.to_pylist()], np.int64)
    return known[_stored(encoded.indices, np.int32)] if len(known) else np.zeros(0, np.int64)


def _stored(column: Any, kind: type[np.generic]) -> NDArray[Any]:
    size = np.dtype(kind).itemsize
    return np.frombuffer(column.buffers()[1] or b"", kind, count=len(column), offset=column.offset * size)


def _is_valid(column: Any) -> NDArray[np.bool_]:
    valid = column.buffers()[0]
    return np.ones(len(column), np.bool_) if valid is None else _bits(column, valid)


def _bits(column: Any, packed: Any) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(packed or b"", np.uint8), bitorder="little")
    return bits[column.offset : column.offset + len(column)].astype(np.bool_)
