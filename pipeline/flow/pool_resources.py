"""The workers of each pool: what the configuration says, and where it says `auto`, what fits the machine."""

from collections.abc import Mapping
from math import ceil

from pipeline.config import Config, Count, Pool
from pipeline.cores.pool_sizes import pool_sizes
from pipeline.flow.machine import Machine
from pipeline.flow.stage import Resources


def resources_of(config: Config, machine: Machine) -> dict[str, Resources]:
    """Return the resources of a worker of `observe` and, if they have pools, `enrich` and `restore`, and their numbers.

    What the configuration leaves open is chosen to fit `machine`.
    """
    run, has_gpu = config.run, config.compute.device == "cuda"
    spans = run.observe.spans if run.observe.spans != "auto" else 1
    is_one_process = run.engine == "local"
    restore = 0 if run.restore is None else _chosen(run.restore.workers) or 1
    sizes = pool_sizes(
        machine.cpus,
        machine.gpus if has_gpu else 0,
        machine.memory_bytes,
        spans=spans,
        observe=1 if is_one_process else _chosen(run.observe.workers),
        enrich=1 if is_one_process and run.enrich.has_workers else _chosen(run.enrich.workers),
        enrich_pools=1 if run.restore is None else 2,
        restore=restore,
    )

    def resources(pool: Pool, workers: int, cpus: float, spans: int = 1) -> Resources:
        return Resources(
            num_cpus=cpus if pool.cpus == "auto" else pool.cpus,
            num_gpus=sizes.gpu_share if pool.gpus == "auto" else pool.gpus,
            min_workers=workers,
            max_workers=max(workers, _chosen(pool.max_workers) or 1),
            spans=spans,
            threads=0 if has_gpu else ceil(machine.cpus / max(1, sizes.observe)),
        )

    result = {"observe": resources(run.observe, sizes.observe, sizes.observe_cpus, spans)}
    if run.enrich.has_workers:
        result["enrich"] = resources(run.enrich, sizes.enrich, sizes.enrich_cpus)
    if run.restore is not None:
        result["restore"] = resources(run.restore, restore, sizes.enrich_cpus)
    return result


def _chosen(number: Count) -> int | None:
    return None if number == "auto" else number


def in_words(pools: Mapping[str, Resources], machine: Machine) -> str:
    """Return the workers for the user, for example `workers for 16 CPUs and 1 GPU: observe 4 (6 spans each), enrich 2`.

    pools: resources by the name of the pool.
    """
    cards = f" and {machine.gpus:g} GPU{'s' * (machine.gpus != 1)}" if machine.gpus else ""
    numbers = [
        f"{name} {each.min_workers}" + (f" ({each.spans} spans each)" if each.spans > 1 else "")
        for name, each in pools.items()
    ]
    cpus = f"{machine.cpus:g} CPU{'s' * (machine.cpus != 1)}"
    many = [name for name, each in pools.items() if each.min_workers > machine.cpus]
    shared = f"; the workers of {' and '.join(many)} share {cpus}, because they are more" if many else ""
    return f"workers for {cpus}{cards}: {', '.join(numbers)}{shared}"
