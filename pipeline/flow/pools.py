"""The stages of the map, as values, and the pools that they share.

plan -> observe -> find_faces -> restore_faces -> estimate -> commit
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import pyarrow as pa

from pipeline import rows
from pipeline.chunk import faces as enrich
from pipeline.config import Config, Pool
from pipeline.flow.stage import Core, Limits, PoolOfStages, Resources, Splitter, Stage
from pipeline.storage.ledger import ChunkSpan, Ledger
from pipeline.storage.store import opener
from pipeline.storage.tables import damage_is_a_fault
from pipeline.weights import Registry

GPU_SHARE = 0.5
"""Value of `gpus: auto` on a machine with a GPU. Two pools share a card."""


def pools_from_pixels(config: Config, registry: Registry, ledger: Ledger, run_id: str) -> list[PoolOfStages]:
    """Return the pools of the whole map. Consecutive stages of a pool share an actor. Restoration has its own pool
    where the configuration asks for it."""
    pool = partial(_pool, config, ledger, run_id)
    observe = Stage(
        name="observe",
        build=partial(_observe, config, registry),
        needs=rows.SPAN,
        adds=rows.join(rows.FRAMES, rows.DETECTIONS, rows.CANDIDATES),
        splits=True,
    )
    find_faces = Stage(
        name="find_faces",
        build=partial(_find_faces, config, registry),
        needs=enrich.FIND_FACES_NEEDS,
        adds=enrich.FIND_FACES_ADDS,
        drops=tuple(enrich.FIND_FACES_DROPS.names),
    )
    restore_faces = Stage(
        name="restore_faces",
        build=partial(_restore_faces, config, registry),
        needs=enrich.RESTORE_FACES_NEEDS,
        adds=enrich.RESTORE_FACES_ADDS,
    )
    estimate = _estimate_stage(config, registry)
    commit = Stage(
        name="commit",
        build=partial(_commit, ledger, config.biometrics.keep),
        needs=rows.join(_CHUNK_NEEDS, rows.OBSERVED, rows.ENRICHED),
        adds=rows.COMMITTED,
        drops=(*rows.FRAMES.names, *rows.DETECTIONS.names, *rows.ENRICHED.names),
    )
    first = pool("observe", config.run.observe, observe)
    if config.restore.mode == "off":
        return [first, pool("enrich", config.run.enrich, find_faces, estimate, commit)]
    if config.run.restore is None:
        return [first, pool("enrich", config.run.enrich, find_faces, restore_faces, estimate, commit)]
    return [
        first,
        pool("find_faces", config.run.enrich, find_faces),
        pool("restore_faces", config.run.restore, restore_faces),
        pool("estimate", config.run.enrich, estimate, commit),
    ]


def pools_from_kept_faces(config: Config, registry: Registry, ledger: Ledger, run_id: str) -> list[PoolOfStages]:
    """Return the pools that make new enriched objects from the faces kept in older ones. They take rows of
    rows.KEPT_FACES."""
    read_faces = Stage(
        name="read_faces",
        build=partial(_read_faces, ledger),
        needs=rows.KEPT_FACES,
        adds=rows.join(rows.ENRICHED, rows.COMMITTED),
        splits=True,
    )
    commit = Stage(
        name="commit",
        build=partial(_commit_enriched, ledger, config.biometrics.keep),
        needs=rows.join(_CHUNK_NEEDS, rows.ENRICHED, rows.COMMITTED),
        adds=rows.COMMITTED,
        drops=tuple(rows.ENRICHED.names),
    )
    stages = (read_faces, _estimate_stage(config, registry), commit)
    return [_pool(config, ledger, run_id, "estimate", config.run.enrich, *stages)]


@dataclass(frozen=True, slots=True)
class Maps:
    """The pools of both maps.

    whole: the map that starts from pixels. It takes rows of rows.SPAN.
    kept_faces: the map of `pools_from_kept_faces`.
    """

    whole: Sequence[PoolOfStages]
    kept_faces: Sequence[PoolOfStages]

    @classmethod
    def of(cls, config: Config, registry: Registry, ledger: Ledger, run_id: str) -> Self:
        told = (config, registry, ledger, run_id)
        return cls(pools_from_pixels(*told), pools_from_kept_faces(*told))


def _pool(config: Config, ledger: Ledger, run_id: str, name: str, knobs: Pool, *stages: Stage) -> PoolOfStages:
    auto = GPU_SHARE if config.compute.device == "cuda" else 0.0
    resources = Resources(
        num_cpus=knobs.cpus,
        num_gpus=auto if knobs.gpus == "auto" else knobs.gpus,
        min_workers=knobs.workers,
        max_workers=max(knobs.workers, knobs.max_workers),
    )
    limits = Limits(
        ledger=ledger,
        run_id=run_id,
        max_attempts=config.run.max_attempts,
        deadline_s=config.run.chunk_deadline_s,
    )
    return PoolOfStages(name=name, stages=stages, resources=resources, limits=limits)


def _estimate_stage(config: Config, registry: Registry) -> Stage:
    return Stage(
        name="estimate",
        build=partial(_estimate, config, registry),
        needs=enrich.ESTIMATE_NEEDS,
        adds=enrich.ESTIMATE_ADDS,
    )


_CHUNK_NEEDS = pa.schema([rows.CHUNK.field(name) for name in ("video_id", "first_cell", "end_cell")])


def _observe(config: Config, registry: Registry) -> Splitter:
    from pipeline.chunk.observe import SpanObserver, as_row
    from pipeline.models.loading import Loader

    load = Loader(config, registry)
    observer = SpanObserver(
        config, load.person_detector(), load.body_embedder(), load.look(), load.whole_frame_face_detector()
    )

    def observe(row: pa.Table) -> Iterator[pa.Table]:
        span = row.to_pylist()[0]
        for chunk in observer.observe(span, opener(span["uri"])):
            columns: Mapping[str, Any] = {name: span.get(name) for name in rows.CHUNK.names} | {
                name: chunk[name] for name in ("first_cell", "end_cell", "warning")
            }
            base = pa.table({f.name: pa.array([columns[f.name]], f.type) for f in rows.CHUNK}, schema=rows.CHUNK)
            observed = as_row(chunk)
            for name in observed.column_names:
                base = base.append_column(observed.schema.field(name), observed[name])
            yield base

    return observe


def _find_faces(config: Config, registry: Registry) -> Core:
    from pipeline.models.loading import Loader

    return enrich.FindFaces(config, Loader(config, registry).face_detector())


def _restore_faces(config: Config, registry: Registry) -> Core:
    from pipeline.models.loading import Loader

    return enrich.RestoreFaces(config, Loader(config, registry).restorer())


def _estimate(config: Config, registry: Registry) -> Core:
    from pipeline.models.loading import Loader

    load = Loader(config, registry)
    return enrich.Estimate(config, load.estimator(), load.face_embedder())


def _read_faces(ledger: Ledger) -> Splitter:
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
        yield chunk.append_column(rows.COMMITTED[0], pa.array([len(frames)], pa.int64()))

    return read


def _commit(ledger: Ledger, keep_biometrics: bool) -> Core:
    def commit(row: pa.Table) -> pa.Table:
        ledger.commit(*_chunk_of(row), row.select(rows.OBSERVED.names), _enriched(row, keep_biometrics))
        return pa.table({"num_frames": pa.array([len(row["frames"][0])], pa.int64())})

    return commit


def _commit_enriched(ledger: Ledger, keep_biometrics: bool) -> Core:
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
    blank = rows.blank(rows.ALIGNED_FACES, 1)
    return enriched.set_column(enriched.column_names.index("aligned"), blank.schema[0], blank["aligned"])
