"""Stage commit: make the objects of a chunk durable."""

from collections.abc import Callable

import pyarrow as pa

from pipeline import rows
from pipeline.columns import as_list, items_of, with_columns
from pipeline.storage.ledger import ChunkSpan, Ledger

CHUNK = pa.schema([rows.CHUNK.field(name) for name in ("video_id", "first_cell", "end_cell")])
NEEDS = rows.join(CHUNK, rows.OBSERVED, rows.ENRICHED)
NEEDS_ENRICHED = rows.join(CHUNK, rows.ENRICHED, rows.COMMITTED)
"""The columns that `build_enriched` needs."""
ADDS = rows.COMMITTED
DROPS = (*rows.FRAMES.names, *rows.DETECTIONS.names, *rows.ENRICHED.names)
DROPS_ENRICHED = tuple(rows.ENRICHED.names)


def build(ledger: Ledger, keep_biometrics: bool) -> Callable[[pa.Table], pa.Table]:
    """Return the core that commits the observed and the enriched object of a chunk.

    keep_biometrics: whether the aligned pictures of faces and those of bodies are kept.
    """

    def commit(row: pa.Table) -> pa.Table:
        ledger.commit(*_chunk_of(row), row.select(rows.OBSERVED.names), _enriched(row, keep_biometrics))
        sizes = [[len(row[name][0])] for name in ("frames", "detections")]
        return pa.table(sizes, schema=rows.COMMITTED)

    return commit


def build_enriched(ledger: Ledger, keep_biometrics: bool) -> Callable[[pa.Table], pa.Table]:
    """Return the core that commits only the enriched object of a chunk, because the observed one is durable."""

    def commit(row: pa.Table) -> pa.Table:
        ledger.commit_enriched(*_chunk_of(row), _enriched(row, keep_biometrics))
        return row.select(rows.COMMITTED.names)

    return commit


def _chunk_of(row: pa.Table) -> tuple[str, ChunkSpan]:
    return row["video_id"][0].as_py(), (row["first_cell"][0].as_py(), row["end_cell"][0].as_py())


def _enriched(row: pa.Table, keep_biometrics: bool) -> pa.Table:
    enriched = row.select(rows.ENRICHED.names)
    if keep_biometrics:
        return enriched
    bodies = items_of(enriched, "bodies")
    without = as_list(with_columns(bodies, picture=pa.nulls(len(bodies), pa.large_binary())))
    blank = rows.blank(rows.ALIGNED_FACES, 1)
    bare = enriched.set_column(enriched.column_names.index("aligned"), blank.schema[0], blank["aligned"])
    return bare.set_column(bare.column_names.index("bodies"), rows.BODIES[0], without)
