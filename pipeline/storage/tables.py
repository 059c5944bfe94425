"""The published datasets. Each is a folder of Parquet files, and every file is complete.

Each dataset has a file without rows that carries the schema, so that it can be read before it has rows.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.columns import no_rows
from pipeline.errors import DataError
from pipeline.storage.faults import plain_cause
from pipeline.storage.store import Store, side_by_side
from pipeline.text import storable

ROWS_PER_GROUP = 65_536
ROWS_OF_CSV = 4_096
"""The number of CSV lines that are formatted at a time."""
SCHEMA_FILE = "schema.parquet"


def create(store: Store, keep_biometrics: bool) -> None:
    """Write the schema file of every dataset, so that all can be read."""
    datasets = rows.DATASETS | (rows.BIOMETRIC_DATASETS if keep_biometrics else {})
    exist = side_by_side(store, lambda name: store.exists(f"{name}/{SCHEMA_FILE}"), datasets)
    for name in [name for name, exists in zip(datasets, exist, strict=True) if not exists]:
        write(store, f"{name}/{SCHEMA_FILE}", datasets[name], [])


def write(store: Store, name: str, schema: pa.Schema, batches: Iterable[pa.Table]) -> int:
    """Write `batches` as one Parquet file and return the number of rows.

    Row groups have a fixed size, so that the bytes depend only on the rows.
    """
    with store.writing(name) as file:
        return _write_to(file, schema, batches)


def _write_to(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.Table]) -> int:
    with RowWriter(file, schema, ROWS_PER_GROUP) as writer:
        for batch in batches:
            writer.add(batch)
    return writer.num_rows


class RowWriter:
    """Writes rows to a Parquet file in row groups of a fixed size. The file is complete at the end of its `with` block.

    rows_per_group: size of all row groups but the last.
    options: of pyarrow's ParquetWriter.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema, rows_per_group: int, **options: Any) -> None:
        self.num_rows = 0
        self._schema, self._rows_per_group = schema, rows_per_group
        self._writer = pq.ParquetWriter(file, schema, compression="zstd", **options)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, batch: pa.Table) -> None:
        """Write the rows of `batch`, some of them with a later batch."""
        self._waiting.append(rows.conform(batch, self._schema))
        self._num_waiting += batch.num_rows
        self.num_rows += batch.num_rows
        while self._num_waiting >= self._rows_per_group:
            joined = pa.concat_tables(self._waiting)
            self._write(joined.slice(0, self._rows_per_group))
            self._waiting = [joined.slice(self._rows_per_group)]
            self._num_waiting -= self._rows_per_group

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            if failure[0] is None:
                self.end()
        finally:
            self._writer.is_open = False  # pyarrow would complete a file that is given up, even after it was closed

    def end(self) -> None:
        """Complete the file."""
        if self._writer.is_open and (self._num_waiting or not self.num_rows):
            self._write(pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table())
        self._writer.close()

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=self._rows_per_group)


def write_rows(store: Store, name: str, schema: pa.Schema, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a small table from `records`. A column that a record lacks is null. Text becomes UTF-8."""
    store.put(name, encode_rows(schema, records))


def encode_rows(schema: pa.Schema, records: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the file that `write_rows` writes."""
    columns = {field.name: [_storable(record.get(field.name)) for record in records] for field in schema}
    file = io.BytesIO()
    _write_to(file, schema, [pa.table(columns, schema=schema)])
    return file.getvalue()


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def read(store: Store, dataset: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of a dataset in order of file names, or none if the dataset does not exist.

    A column that a file of an older version lacks is null.
    """
    names = [name for name in store.names(dataset) if name.endswith(".parquet")]
    schema = _schema(dataset, columns)
    return pa.concat_tables([no_rows(schema), *(read_file(store, name, schema) for name in names)])


def read_one(store: Store, dataset: str, video_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one published video, as `read` does. Raises FileNotFoundError."""
    return read_file(store, f"{dataset}/{video_id}.parquet", _schema(dataset, columns))


def _schema(dataset: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = (rows.DATASETS | rows.BIOMETRIC_DATASETS)[dataset]
    return pa.schema([schema.field(name) for name in columns]) if columns else schema


def read_file(store: Store, name: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of one Parquet file. A column that it lacks is null. Raises FileNotFoundError."""
    with store.open(name) as file:
        return _read(pq.ParquetFile(file), schema)


def read_small_file(store: Store, name: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of one Parquet file as `read_file` does, with one request."""
    return _read(pq.ParquetFile(io.BytesIO(store.read(name))), schema)


def _read(reader: pq.ParquetFile, schema: pa.Schema) -> pa.Table:
    stored = set(reader.schema_arrow.names)
    table = reader.read([name for name in schema.names if name in stored], use_threads=False)  # see row_groups
    return table if table.schema.equals(schema) else fit(table, schema)


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a stored table with the columns of `schema`. A column that it lacks is null."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def num_rows(store: Store, name: str) -> int:
    """Return the number of rows of one Parquet file. Raises FileNotFoundError."""
    with store.open(name) as file:
        return pq.ParquetFile(file).metadata.num_rows


def read_note(store: Store, name: str, key: str) -> str | None:
    """Return the value of `key` in the metadata of a Parquet file, or None if the file or the key does not exist."""
    try:
        with store.open(name) as file:
            note = (pq.read_schema(file).metadata or {}).get(key.encode())
    except FileNotFoundError:
        return None
    return None if note is None else note.decode()


@contextmanager
def row_groups(store: Store, name: str) -> Iterator[Iterator[pa.Table]]:
    """Yield an iterator over the row groups of one Parquet file."""
    with store.open(name) as file:
        reader = pq.ParquetFile(file)
        # A thread of Arrow's pool that still starts while the process ends aborts it (status 134 on a busy machine).
        yield (reader.read_row_group(i, use_threads=False) for i in range(reader.num_row_groups))


@contextmanager
def damage_is_a_fault() -> Iterator[None]:
    """Raise DataError if the block fails because stored bytes are missing, damaged or inconsistent."""
    try:
        yield
        return
    except (pa.ArrowException, LookupError, ValueError, FileNotFoundError) as error:
        cause = error
    except OSError as error:
        if error.errno is not None:  # the place fails; for damaged bytes, Arrow raises an OSError without a number
            raise
        cause = error
    described = f"{type(cause).__name__}: {plain_cause(cause)}"
    raise DataError(f"what is stored of it cannot be read or does not fit together ({described})") from cause


def write_csv(store: Store, video_id: str, name: str) -> None:
    """Write the CSV of a published video, in the format of the seeds: one person in one frame per line, whole
    pixels, LF line ends."""
    with row_groups(store, f"detections/{video_id}.parquet") as groups, store.writing(name) as file:
        file.write(f"{rows.CSV_HEADER}\n".encode())
        for group in (part.slice(start, ROWS_OF_CSV) for part in groups for start in range(0, len(part), ROWS_OF_CSV)):
            column = {field: group[field].to_numpy() for field in group.schema.names if field.startswith("bb_")}
            left, top = np.rint(column["bb_xmin"]), np.rint(column["bb_ymin"])
            height = np.maximum(np.rint(column["bb_ymin"] + column["bb_height"]) - top, 1)
            width = np.maximum(np.rint(column["bb_xmin"] + column["bb_width"]) - left, 1)
            whole = [group["frame_num"], group["person_id"], left, top, height, width]
            whole += [group["age_min"], group["age_max"], group["age_actual"]]
            numbers = np.stack([np.asarray(values).astype(np.int64) for values in whole], axis=1).tolist()
            genders = group["gender"].to_pylist()
            lines = (",".join(map(str, row)) + f",{g}\n" for row, g in zip(numbers, genders, strict=True))
            file.write("".join(lines).encode())
