"""Choose how many workers fit a machine or a cluster.

Observing takes six to eight times as long as faces and estimates together, and about five times as long as tracking and
linking (crowds on a CPU and on a card, docs/measured.md). An observe worker keeps about one core busy.
"""

from dataclasses import dataclass
from math import ceil, floor

CORES_PER_ENRICH = 8
"""Cores for which one worker that finds faces and makes estimates is enough."""
CORES_PER_REDUCE = 6
"""Cores of which one tracks and links."""
CORES_PER_SPANS_WORKER = 4
"""Cores that an observe worker with several spans keeps busy with decoding."""
SPANS_WORKERS_PER_CARD = 4
"""Most observe workers with several spans on one card. A few hide each other's Python; more only take turns."""
ENRICH_CPUS = 0.5
LEAST_CPUS = 0.5
"""Cores of a worker in Ray's books. They limit nothing: Ray only places workers by them."""
WORKER_BYTES = 1_300_000_000
"""Memory of a worker with its models: 1.0 to 1.2 GB were measured."""
OTHER_BYTES = 2_000_000_000
"""Memory for everything else: the driver, Ray, and videos that are tracked."""


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Sizes of the pools of a run.

    observe, enrich: numbers of workers.
    observe_cpus, enrich_cpus: cores of one worker in Ray's books.
    gpu_share: share of a card of one worker.
    """

    observe: int
    enrich: int
    observe_cpus: float
    enrich_cpus: float
    gpu_share: float


def pool_sizes(
    cpus: float,
    gpus: float,
    memory_bytes: float,
    *,
    spans: int,
    observe: int | None = None,
    enrich: int | None = None,
    enrich_pools: int = 1,
    restore: int = 0,
) -> PoolSizes:
    """Return sizes that keep the cores and cards busy, and leave room for tracking and linking.

    cpus, gpus, memory_bytes: of the machine or of the whole cluster. gpus: 0 if none is used.
    spans: spans that an observe worker works on at the same time.
    observe, enrich: numbers of workers if they are decided already. enrich: 0 if observe workers do its work too.
    enrich_pools: number of pools of the size `enrich`: 2 if restoration has a pool between them.
    restore: number of workers that only restore faces.
    """
    cores = max(1, floor(cpus))
    has_spans = gpus > 0 and spans > 1
    if enrich is None:
        enrich = max(1, cores // CORES_PER_ENRICH, ceil(gpus))
    if observe is None:
        if has_spans:
            busy = min(cores // CORES_PER_SPANS_WORKER, floor(SPANS_WORKERS_PER_CARD * gpus))
            observe = max(ceil(gpus), busy)
        else:
            observe = cores - 1 - (cores // CORES_PER_ENRICH if enrich else 0)
        in_memory = max(0.0, memory_bytes - OTHER_BYTES) / WORKER_BYTES - enrich * enrich_pools - restore
        observe = int(max(1, min(observe, in_memory)))
    free = cores - max(1, cores // CORES_PER_REDUCE) - (enrich * enrich_pools + restore) * ENRICH_CPUS
    most = CORES_PER_SPANS_WORKER if has_spans else 1
    return PoolSizes(
        observe=observe,
        enrich=enrich,
        observe_cpus=max(LEAST_CPUS, floor(100 * min(most, free / observe)) / 100),
        enrich_cpus=ENRICH_CPUS,
        gpu_share=floor(1000 / ceil((observe + enrich * enrich_pools + restore) / gpus)) / 1000 if gpus else 0.0,
    )
