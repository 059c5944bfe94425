"""Stage read_faces: read the kept faces of a chunk from an older enriched object."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from pipeline import rows
from pipeline.storage.ledger import Ledger
from pipeline.storage.tables import damage_is_a_fault

NEEDS = rows.KEPT_FACES
ADDS = rows.join(rows.ENRICHED, rows.COMMITTED)


def build(ledger: Ledger) -> Callable[[pa.Table], Iterator[pa.Table]]:
    """Return the core of the stage. It makes the row of a chunk from a row of rows.KEPT_FACES."""

    def read(row: pa.Table) -> Iterator[pa.Table]:
        kept = row.to_pylist()[0]
        video_id, span = kept["video_id"], (kept["first_cell"], kept["end_cell"])
        source = replace(ledger, keys=replace(ledger.keys, enriched=kept["enriched"]))
        with damage_is_a_fault():
            enriched = source.enriched(video_id, span, rows.ENRICHED.names)
            frames = source.observed(video_id, span, ["frames.list.element.cell"])["frames"][0]
        columns = [pa.array([kept.get(field.name)], field.type) for field in rows.CHUNK]
        chunk = pa.table(columns, schema=rows.CHUNK)
        for name in enriched.column_names:
            chunk = chunk.append_column(enriched.schema.field(name), enriched[name])
        for field, size in zip(rows.COMMITTED, (len(frames), 0), strict=True):
            chunk = chunk.append_column(field, pa.array([size], field.type))
        yield chunk

    return read
