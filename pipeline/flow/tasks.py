"""Carry out independent tasks, on Ray or in processes of this machine.

A task is a function without arguments that can be pickled. Its result or its error comes back through a Future. If a
worker dies, its task is tried again in another one.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol, TypeVar

from pipeline.config import Config, cluster_address
from pipeline.flow.local_tasks import LocalTasks

Result = TypeVar("Result")


class Tasks(Protocol):
    """Carries out tasks.

    num_workers: number of tasks that run at the same time.
    """

    @property
    def num_workers(self) -> int: ...

    def submit(self, task: Callable[[], Result]) -> "Future[Result]":
        """Start a task as soon as a worker is free. It raises DataError if its worker dies at every try."""
        ...


@contextmanager
def running_tasks(config: Config, say: Callable[[str], None]) -> Iterator[Tasks]:
    """Yield workers for the tasks of the block: those of Ray if the configuration names a cluster or Ray, or if Ray
    runs already, else processes of this machine.

    say: reports the start of Ray.
    """
    if config.run.engine == "ray" or (config.run.engine == "auto" and cluster_address(config) is not None):
        from pipeline.flow import cluster, ray_engine

        say("starting Ray")
        cluster.start_ray(config, say)
        yield ray_engine.RayTasks(config)
        return
    tasks = LocalTasks(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        yield tasks
    finally:
        tasks.close()
