"""The rows of a map, as Ray Data reads them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from pipeline.planning.spans import FacesRow, SpanRow

Rows = Sequence[SpanRow | FacesRow]


class Feed(ray.data.Datasource):
    """The rows of a map. One task makes their tables while the pools work, because hundreds of thousands of tables
    would take minutes and gigabytes before the first chunk. A task that replaces it makes the same tables again.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self._num_rows, self._rows = len(rows), ray.put(rows)

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        rows = self._rows

        def tables() -> Iterator[pa.Table]:
            for row in ray.get(rows):
                yield row.table()

        return [ReadTask(tables, BlockMetadata(self._num_rows, None, None, None))]

    def estimate_inmemory_data_size(self) -> int | None:
        return None
