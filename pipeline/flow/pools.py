"""The stages of the map, as values, and the pools that they share.

plan -> observe -> find_faces -> restore_faces -> estimate -> commit

pipeline/chunk has the work of each stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from pipeline.chunk import commit, estimate, find_faces, observe, read_faces, restore_faces
from pipeline.config import Config
from pipeline.flow.machine import Machine, this_machine
from pipeline.flow.pool_resources import resources_of
from pipeline.flow.stage import Limits, PoolOfStages, Stage
from pipeline.storage.event_log import EventTarget
from pipeline.storage.ledger import Ledger
from pipeline.storage.source_files import opener
from pipeline.weights import Registry


def pools_from_pixels(
    config: Config,
    registry: Registry,
    ledger: Ledger,
    run_id: str,
    events: EventTarget | None = None,
    machine: Machine | None = None,
) -> list[PoolOfStages]:
    """Return the pools of the whole map. Consecutive stages of a pool share an actor. Restoration has its own pool
    where the configuration asks for it, and faces have none where it has none for them."""
    resources = resources_of(config, machine or this_machine())
    limits = _limits(config, ledger, run_id, events)

    def pool(name: str, kind: str, *stages: Stage) -> PoolOfStages:
        return PoolOfStages(name=name, stages=stages, resources=resources[kind], limits=limits)

    observe_stage = Stage(
        name="observe",
        build=partial(observe.build, config, registry, opener),
        needs=observe.NEEDS,
        adds=observe.ADDS,
        splits=True,
        takes_threads=True,
    )
    find_stage = Stage(
        name="find_faces",
        build=partial(find_faces.build, config, registry),
        needs=find_faces.NEEDS,
        adds=find_faces.ADDS,
        drops=find_faces.DROPS,
        takes_threads=True,
    )
    restore_stage = Stage(
        name="restore_faces",
        build=partial(restore_faces.build, config, registry),
        needs=restore_faces.NEEDS,
        adds=restore_faces.ADDS,
    )
    estimate_stage = _estimate_stage(config, registry)
    commit_stage = Stage(
        name="commit",
        build=partial(commit.build, ledger, config.biometrics.keep),
        needs=commit.NEEDS,
        adds=commit.ADDS,
        drops=commit.DROPS,
    )
    restoring = [] if config.restore.mode == "off" else [restore_stage]
    face_stages = (find_stage, *restoring, estimate_stage, commit_stage)
    if not config.run.enrich.has_workers:
        return [pool("observe", "observe", observe_stage, *face_stages)]
    first = pool("observe", "observe", observe_stage)
    if config.run.restore is None or not restoring:
        return [first, pool("enrich", "enrich", *face_stages)]
    return [
        first,
        pool("find_faces", "enrich", find_stage),
        pool("restore_faces", "restore", restore_stage),
        pool("estimate", "enrich", estimate_stage, commit_stage),
    ]


def pools_from_kept_faces(
    config: Config,
    registry: Registry,
    ledger: Ledger,
    run_id: str,
    events: EventTarget | None = None,
    machine: Machine | None = None,
) -> list[PoolOfStages]:
    """Return the pools that make new enriched objects from the faces kept in older ones. They take rows of
    rows.KEPT_FACES."""
    read_stage = Stage(
        name="read_faces",
        build=partial(read_faces.build, ledger),
        needs=read_faces.NEEDS,
        adds=read_faces.ADDS,
        splits=True,
    )
    commit_stage = Stage(
        name="commit",
        build=partial(commit.build_enriched, ledger, config.biometrics.keep),
        needs=commit.NEEDS_ENRICHED,
        adds=commit.ADDS,
        drops=commit.DROPS_ENRICHED,
    )
    stages = (read_stage, _estimate_stage(config, registry), commit_stage)
    resources = resources_of(config, machine or this_machine())
    limits = _limits(config, ledger, run_id, events)
    kind = "enrich" if config.run.enrich.has_workers else "observe"
    return [PoolOfStages(name="estimate", stages=stages, resources=resources[kind], limits=limits)]


@dataclass(frozen=True, slots=True)
class Maps:
    """The pools of both maps.

    whole: the map that starts from pixels. It takes rows of rows.SPAN.
    kept_faces: the map of `pools_from_kept_faces`.
    """

    whole: Sequence[PoolOfStages]
    kept_faces: Sequence[PoolOfStages]

    @classmethod
    def of(
        cls,
        config: Config,
        registry: Registry,
        ledger: Ledger,
        run_id: str,
        events: EventTarget | None = None,
        machine: Machine | None = None,
    ) -> Self:
        """Return the pools for a run.

        events: where its workers write what happens.
        machine: where it runs. None for this machine.
        """
        return cls(
            whole=pools_from_pixels(config, registry, ledger, run_id, events, machine),
            kept_faces=pools_from_kept_faces(config, registry, ledger, run_id, events, machine),
        )

    @property
    def events(self) -> EventTarget | None:
        """Where the workers write what happens."""
        return self.whole[0].limits.events


def _limits(config: Config, ledger: Ledger, run_id: str, events: EventTarget | None) -> Limits:
    return Limits(
        ledger=ledger,
        run_id=run_id,
        max_attempts=config.run.max_attempts,
        deadline_s=config.run.chunk_deadline_s,
        events=events,
    )


def _estimate_stage(config: Config, registry: Registry) -> Stage:
    return Stage(
        name="estimate",
        build=partial(estimate.build, config, registry),
        needs=estimate.NEEDS,
        adds=estimate.ADDS,
    )
