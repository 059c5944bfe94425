"""The stages of the map, as values, and the pools that they share.

plan -> observe -> find_faces -> restore_faces -> estimate -> commit
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Self

import pyarrow as pa

from pipeline import rows
from pipeline.config import Config, Pool, digest
from pipeline.cores.likeness import WIDE, Likeness, Likenesses
from pipeline.cores.plan import PlannedSpan, plan_spans
from pipeline.media.probe import Probe
from pipeline.stages import enrich
from pipeline.stages.base import Core, Limits, PoolOfStages, Resources, Splitter, Stage
from pipeline.storage.ledger import Keys, Ledger, Span
from pipeline.storage.store import opener
from pipeline.storage.tables import damage_is_a_fault
from pipeline.weights import Registry

GPU_SHARE = 0.5
"""Value of `gpus: auto` on a machine with a GPU. Two pools share a card."""
REVISION = 6
"""Version of the results. It rises when the code changes the results of the same knobs and weights."""
REDUCE_REVISION = 6
"""Version of the reduce. It rises when the code changes the results of the reduce alone. The objects in the
working area stay valid then."""
SHAPED_BY = {
    "observed": ("chunk", "observe", "candidates", "compute"),
    "enriched": ("faces", "gate", "restore", "estimate", "biometrics"),
    "reduced": ("track", "cuts", "identity", "person"),
}
"""The sections of the configuration that shape each durable object, in addition to those of the objects before it."""
OBSERVED_ROLES = ("detector", "body", "look")

RowOfSpan = str
"""One row of rows.SPAN or of rows.KEPT_FACES, as JSON."""
ToldLikenesses = Mapping[str, Mapping[str, Sequence[float]]]
"""weights.Entry.likeness by kind of embedding, where the registry has one."""


def keys(config: Config, registry: Registry) -> Keys:
    """Return the keys under which the durable objects of a configuration are stored. The sha256 of its models must
    be known."""
    shas = registry.digests(config)
    roles, sections = OBSERVED_ROLES, SHAPED_BY["observed"]
    if config.observe.whole_frame_faces:
        roles, sections = (*roles, "face_detector"), (*sections, "faces")
    looks = {role: sha for role, sha in shas.items() if role.split(".")[0] in roles}
    observed = digest(REVISION, config.result_knobs(*sections), looks)
    return Keys(observed, digest(observed, config.result_knobs(*SHAPED_BY["enriched"]), shas))


def config_id(config: Config, registry: Registry) -> str:
    """Return the id of everything besides its content that the tables of a video depend on."""
    return reduced_id(keys(config, registry), config, told_likenesses(config, registry))


def reduced_id(keys: Keys, config: Config, likenesses: ToldLikenesses) -> str:
    """Return the config_id of tables that are reduced from the durable objects under `keys`."""
    return digest(REDUCE_REVISION, keys.enriched, config.result_knobs(*SHAPED_BY["reduced"]), likenesses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The meaning of a config_id, as stored in `recipes/`. It depends neither on the time nor on the place of a run.

    knobs: by dotted name, those that can change a row.
    keys: of the durable objects.
    spaces: by kind of embedding, the embedding space.
    likenesses: by kind of embedding, the numbers of the registry for calibrated similarity, where it has some.
    models: by role, their name, sha256 and licence.
    reduce_revision: REDUCE_REVISION of the code that made the tables.
    """

    knobs: Mapping[str, Any]
    keys: Keys
    spaces: Mapping[str, str]
    likenesses: ToldLikenesses
    models: Mapping[str, Mapping[str, str | None]]
    reduce_revision: int

    @classmethod
    def of(cls, config: Config, registry: Registry) -> Self:
        return cls(
            knobs=config.result_knobs(),
            keys=keys(config, registry),
            spaces=spaces(config, registry),
            likenesses=told_likenesses(config, registry),
            models=models(config, registry),
            reduce_revision=REDUCE_REVISION,
        )

    def reduced_with(self, config: Config) -> Self:
        """Return the recipe of another reduce of the same durable objects."""
        return replace(self, knobs=config.result_knobs(), reduce_revision=REDUCE_REVISION)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        return cls(**{**told, "keys": Keys(**told["keys"])})


def planned(probe: Probe, config: Config, durable: Sequence[Span]) -> list[PlannedSpan]:
    """Return the spans of one video that are still to be decoded."""
    return plan_spans(
        duration_s=probe.duration_s,
        keyframe_ns=probe.keyframe_ns,
        enterable=probe.enterable,
        params=config.chunk,
        durable=durable,
    )


def span_row(video_id: str, uri: str, probe: Probe, span: PlannedSpan) -> RowOfSpan:
    return json.dumps({"video_id": video_id, "uri": uri, "probe": probe.without_keyframes().to_json()} | asdict(span))


def faces_row(video_id: str, uri: str, span: Span, enriched: str) -> RowOfSpan:
    """Return a row of rows.KEPT_FACES."""
    told = {"video_id": video_id, "uri": uri, "first_cell": span[0], "end_cell": span[1], "enriched": enriched}
    return json.dumps(told)


def spaces(config: Config, registry: Registry) -> dict[str, str]:
    """Return the embedding spaces of a configuration. Vectors of two spaces are never compared."""
    chosen = _embedders(config)
    return {kind: registry.entry(name).embedding_space or name for kind, name in chosen.items()}


def told_likenesses(config: Config, registry: Registry) -> ToldLikenesses:
    """Return, by kind of embedding, what the registry states about the embedders of a configuration."""
    told = {kind: registry.entry(name).likeness for kind, name in _embedders(config).items()}
    return {kind: {key: list(pair) for key, pair in one.items()} for kind, one in told.items() if one}


def priors(told: ToldLikenesses) -> Likenesses:
    """Return the calibrated similarity that a video starts from. Kinds without an entry in the registry get a wide
    one."""
    return {kind: Likeness.from_distances(**told[kind]) if kind in told else wide for kind, wide in WIDE.items()}


def _embedders(config: Config) -> dict[str, str]:
    chosen = {"body": config.observe.body.weights, "face": config.estimate.face_embedding}
    return {kind: name for kind, name in chosen.items() if name}


def models(config: Config, registry: Registry) -> dict[str, dict[str, str | None]]:
    """Return the models that a run reports. They are given by role, with name, sha256 and licence."""
    return {
        role: {"name": name, "sha256": registry.sha256(name), "licence": registry.entry(name).licence}
        for role, name in registry.models_of(config).items()
    }


def pools(config: Config, registry: Registry, ledger: Ledger, run_id: str) -> list[PoolOfStages]:
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


def pools_of_kept_faces(config: Config, registry: Registry, ledger: Ledger, run_id: str) -> list[PoolOfStages]:
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
    kept_faces: the map of `pools_of_kept_faces`.
    """

    whole: Sequence[PoolOfStages]
    kept_faces: Sequence[PoolOfStages]

    @classmethod
    def of(cls, config: Config, registry: Registry, ledger: Ledger, run_id: str) -> Self:
        told = (config, registry, ledger, run_id)
        return cls(pools(*told), pools_of_kept_faces(*told))


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
    from pipeline.models.loading import Loader
    from pipeline.stages.observe import SpanObserver, as_row

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


def _chunk_of(row: pa.Table) -> tuple[str, Span]:
    return row["video_id"][0].as_py(), (row["first_cell"][0].as_py(), row["end_cell"][0].as_py())


def _enriched(row: pa.Table, keep_biometrics: bool) -> pa.Table:
    enriched = row.select(rows.ENRICHED.names)
    if keep_biometrics:
        return enriched
    blank = rows.blank(rows.ALIGNED_FACES, 1)
    return enriched.set_column(enriched.column_names.index("aligned"), blank.schema[0], blank["aligned"])
