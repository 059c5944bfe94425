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
FEW_ROWS = 1_000
"""Most rows whose tables the driver makes, which takes it 1 to 2 ms each. The start of the process of another task
takes 2 to 3 s."""


def dataset_of(rows: Rows) -> ray.data.Dataset:
    """Return the rows of a map, one in a block."""
    if len(rows) > FEW_ROWS:
        return ray.data.read_datasource(_Feed(rows), override_num_blocks=1, num_cpus=0)
    return ray.data.from_items([row.table().to_pylist()[0] for row in rows], override_num_blocks=len(rows))


class _Feed(ray.data.Datasource):
    """Makes the tables of rows in a task while the pools work. Hundreds of thousands of tables would take minutes and
    gigabytes before the first chunk. A task that replaces it makes the same tables again.
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
