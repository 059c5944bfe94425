"""Run the flow on Ray. It maps the rows through the pools and publishes each video as soon as its last chunk is
durable."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from pipeline.config import Config
from pipeline.errors import DataError, PassingError
from pipeline.flow import journal, local_tasks, metrics
from pipeline.flow.cluster import WAIT_FOR_ACTORS_S, plain_errors
from pipeline.flow.deferrals import POLL_S, Deferrals
from pipeline.flow.events import (
    PUBLISH_RETRIES,
    Event,
    Progress,
    VideoDeferred,
    VideoDone,
    VideoFailed,
    Work,
    again,
    event_of,
    finish_video,
    given_up,
    worker_died,
)
from pipeline.flow.local_tasks import TRIES
from pipeline.flow.nodes import Attempt
from pipeline.flow.ray_feed import Rows, dataset_of
from pipeline.flow.ray_nodes import RayNodes
from pipeline.flow.sequence_ends import SequenceEnd, died, finish_sequence
from pipeline.flow.stage import NODE_LOST, WORKER_DIED, PoolOfStages, Worker
from pipeline.planning.spans import SpanRow
from pipeline.storage.event_log import EventTarget
from pipeline.video.blocks import TrackingResult
from pipeline.video.job import VideoJob
from pipeline.video.parts import Part
from pipeline.video.relink import RelinkJob
from pipeline.video.sequences import SequenceJob

ROWS_BETWEEN_POOLS_BYTES = 256 << 20
MOST_WAITING = 16.0
"""Most bytes of rows that wait for a pool, over the bytes of the rows that its workers have. Each has up to two."""
ROWS_OF_MANY_SPANS_BYTES = 1 << 30
"""Bytes of rows between the pools. Where a worker has several spans, each of them has a row there."""
DEATHS = (WorkerCrashedError, OutOfMemoryError, NodeDiedError)
"""What Ray raises for a task whose worker died."""


def run(
    work: Sequence[Work | RelinkJob],
    pools: Sequence[PoolOfStages],
    config: Config,
    pools_from_kept_faces: Sequence[PoolOfStages] = (),
) -> Iterator[Event]:
    """Carry out `work`. The videos that need no new chunks come first. Ray stays running at the end."""
    with plain_errors():
        yield from _Run(work, config, pools[0].limits.events).events(pools, pools_from_kept_faces)


def link_sequences(jobs: Sequence[SequenceJob], config: Config) -> Iterator[SequenceEnd]:
    """Link sequences as sequence_ends.link_here does, with one task for each."""
    start = _link.options(num_cpus=config.run.reduce_cpus).remote
    with plain_errors():
        linking = {start(job): (job, Deaths()) for job in jobs}
        while linking:
            finished, _ = ray.wait(list(linking))
            for reference in finished:
                job, deaths = linking.pop(reference)
                try:
                    yield ray.get(reference)
                except DEATHS as death:
                    if deaths.is_last(death):
                        yield died(job, str(deaths))
                    else:
                        linking[start(job)] = (job, deaths)


@dataclass(slots=True)
class Deaths:
    """The deaths of the workers of one task.

    num_deaths: number of deaths of the worker alone.
    num_lost: number of deaths together with its node.
    """

    num_deaths: int = 0
    num_lost: int = 0

    def is_last(self, death: BaseException) -> bool:
        """Count a death. Return whether it was one too many."""
        is_lost = isinstance(death, NodeDiedError)
        self.num_lost += is_lost
        self.num_deaths += not is_lost
        journal.note("worker_died", "warning", kind=NODE_LOST if is_lost else WORKER_DIED)
        metrics.count("rollcall_retries_total", kind=NODE_LOST if is_lost else WORKER_DIED)
        return Attempt(self.num_deaths, self.num_lost).number > PUBLISH_RETRIES + 1

    def __str__(self) -> str:
        return Attempt(self.num_deaths, self.num_lost).deaths


class RayTasks:
    """Tasks on the cluster (flow.tasks.Tasks), each with the CPUs of a reduce."""

    def __init__(self, config: Config) -> None:
        self._cpus = config.run.reduce_cpus
        self.num_workers = max(1, int(ray.cluster_resources().get("CPU", 1) / self._cpus))

    def submit(self, task: Callable[[], Any]) -> "Future[Any]":
        """Start a task as Tasks states."""
        reference = _do.options(num_cpus=self._cpus).remote(task)
        answer: Future[Any] = Future()
        reference.future().add_done_callback(lambda done: _pass_on(done, answer))
        return answer


def _pass_on(done: "Future[Any]", answer: "Future[Any]") -> None:
    """Give the result or the error of `done` to `answer`, in the words of this project."""
    try:
        with plain_errors():
            answer.set_result(done.result())
    except (WorkerCrashedError, OutOfMemoryError):
        answer.set_exception(DataError(local_tasks.WORKER_DIED))
    except BaseException as error:
        answer.set_exception(error)


@ray.remote(max_retries=TRIES - 1)
def _do(task: Callable[[], Any]) -> Any:
    return task()


class _Run:
    def __init__(self, work: Sequence[Work | RelinkJob], config: Config, events: EventTarget | None = None) -> None:
        self._config, self._events = config, events
        self._progress = Progress(work, Deferrals(config.run.deferral_waits_s))
        self._publishing: dict[Any, VideoJob | RelinkJob] = {}
        self._deaths: dict[str, Deaths] = defaultdict(Deaths)

    def events(self, pools: Sequence[PoolOfStages], pools_from_kept_faces: Sequence[PoolOfStages]) -> Iterator[Event]:
        progress, waiting = self._progress, self._progress.deferrals
        arrivals: queue.Queue[Any] = queue.Queue()
        to_map = list(progress.videos.values())
        num_mapping = 0
        while to_map or num_mapping or progress.ready or self._publishing or waiting.is_waiting:
            if not num_mapping:  # the pools of two maps would not fit side by side
                num_mapping = _start_mapping(to_map or progress.take_due(), pools, pools_from_kept_faces, arrivals)
                to_map = []
            self._start_publishing()
            if num_mapping:
                for row in _arrived(arrivals, POLL_S):
                    if row is None:
                        num_mapping -= 1
                    else:
                        yield from progress.take(event_of(row))
            elif not self._publishing and not progress.ready and waiting.is_waiting:
                time.sleep(POLL_S)
            yield from self._published(0 if num_mapping else POLL_S)
        progress.check_ended()

    def _start_publishing(self) -> None:
        cpus, ready = self._config.run.reduce_cpus, self._progress.ready
        while ready and len(self._publishing) < self._config.run.max_reduces:
            last = ready.popleft()
            self._publishing[_reduce.options(num_cpus=cpus).remote(last, cpus, self._events)] = last

    def _published(self, timeout_s: float) -> Iterator[Event]:
        if not self._publishing:
            return
        waiting = list(self._publishing)
        finished, _ = ray.wait(waiting, num_returns=len(waiting) if timeout_s == 0 else 1, timeout=timeout_s)
        for reference in finished:
            last = self._publishing.pop(reference)
            try:
                outcome = ray.get(reference)
            except DEATHS as death:
                deaths = self._deaths[last.video_id]
                with journal.working_on(video=last.video_id):
                    if not deaths.is_last(death):
                        self._progress.ready.append(again(last))
                        continue
                outcome = given_up(last, str(deaths))
            yield from self._progress.take(outcome)


def _start_mapping(
    work: Sequence[Work],
    pools: Sequence[PoolOfStages],
    pools_from_kept_faces: Sequence[PoolOfStages],
    arrivals: "queue.Queue[Any]",
) -> int:
    """Start the maps that `work` needs, in a thread. Return their number, which may be 0."""
    spans: Rows = [row for video in work for row in video.rows_left()]
    faces: Rows = [row for video in work for row in video.faces_left()]
    maps = [(rows, chosen) for rows, chosen in ((faces, pools_from_kept_faces), (spans, pools)) if rows]
    if maps:
        threading.Thread(target=_map_all, args=(maps, arrivals), daemon=True).start()
    return len(maps)


def _map_all(maps: Sequence[tuple[Rows, Sequence[PoolOfStages]]], arrivals: "queue.Queue[Any]") -> None:
    """Run one map after the other, because the pools of two maps would not fit side by side."""
    for rows, pools in maps:
        _map(rows, pools, arrivals)


def _map(rows: Rows, pools: Sequence[PoolOfStages], arrivals: "queue.Queue[Any]") -> None:
    """Put every row that comes out of the pools into `arrivals`. At the end put None, or the exception that ended
    the map."""
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # one row per block
        context.downstream_capacity_backpressure_ratio = MOST_WAITING
        context.wait_for_min_actors_s = WAIT_FOR_ACTORS_S
        context.execution_options.preserve_order = False
        context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
            object_store_memory=_rows_between_pools_bytes(pools)
        )
        dataset = dataset_of(rows)
        for pool, most in zip(pools, most_workers(rows, pools), strict=True):
            dataset = _extend(dataset, pool, most)
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in cast(Iterator[pa.Table], batches):
            for i in range(batch.num_rows):
                arrivals.put(batch.slice(i, 1))
        arrivals.put(None)
    except BaseException as error:
        arrivals.put(error)


def _rows_between_pools_bytes(pools: Sequence[PoolOfStages]) -> int:
    if all(pool.resources.spans == 1 for pool in pools):
        return ROWS_BETWEEN_POOLS_BYTES
    half_bytes = int(ray.cluster_resources().get("object_store_memory", 0)) // 2
    return max(ROWS_BETWEEN_POOLS_BYTES, min(ROWS_OF_MANY_SPANS_BYTES, half_bytes))


def most_workers(rows: Rows, pools: Sequence[PoolOfStages]) -> list[int]:
    """Return how many workers of each pool `rows` can employ: the first pool takes rows, and the others take chunks.
    Every other worker would load its models for nothing."""
    num_chunks = sum(len(row.borders) - len(row.durable) if isinstance(row, SpanRow) else 1 for row in rows)
    return [max(1, -(-len(rows) // pools[0].resources.spans)), *[max(1, num_chunks)] * (len(pools) - 1)]


def _extend(dataset: ray.data.Dataset, pool: PoolOfStages, most: int) -> ray.data.Dataset:
    """Append the stages of `pool` to `dataset`, in at most `most` actors of their own."""
    spans = pool.resources.spans
    # Ray runs the body of a generator in the thread of its call, so an actor works on several rows at the same time.
    # One row more waits in the actor. Others would be missing elsewhere at the end.
    strategy: dict[str, Any] = {"max_tasks_in_flight_per_actor": spans + 1} if spans > 1 else {}
    remote: dict[str, Any] = {}
    if spans > 1 and "max_concurrent_calls_per_actor" in signature(ray.data.ActorPoolStrategy).parameters:
        strategy["max_concurrent_calls_per_actor"] = spans
    elif spans > 1:  # Ray before 2.60
        remote["max_concurrency"] = spans
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(pool, RayNodes()),
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=pool.resources.num_cpus,
        num_gpus=pool.resources.num_gpus,
        compute=ray.data.ActorPoolStrategy(
            min_size=min(most, pool.resources.min_workers),
            max_size=min(most, pool.resources.max_workers),
            initial_size=min(most, pool.resources.min_workers),
            **strategy,
        ),
        **remote,
    )


def _arrived(arrivals: "queue.Queue[Any]", timeout_s: float) -> Iterator[pa.Table | None]:
    """Yield the items that have arrived. Wait at most `timeout_s` seconds for the first one."""
    try:
        item = arrivals.get(timeout=timeout_s)
        while True:
            if isinstance(item, BaseException):
                raise item
            yield item
            item = arrivals.get_nowait()
    except queue.Empty:
        return


@ray.remote(max_retries=0)  # the driver counts the deaths
def _reduce(
    last: VideoJob | RelinkJob, part_cpus: float, events: EventTarget | None
) -> VideoDone | VideoFailed | VideoDeferred:
    if events is not None:
        journal.open_journal(events)
    return finish_video(last, partial(run_parts, part_cpus=part_cpus))


_link = ray.remote(max_retries=0)(finish_sequence)


def run_parts(parts: Sequence[Part], part_cpus: float) -> Sequence[TrackingResult]:
    """Track parts on the cluster, but a single part in this process."""
    if len(parts) < 2:
        return [_track(part) for part in parts]
    # While the task that calls this function waits, Ray lends its CPUs to the parts.
    tracking = [_track_remote.options(num_cpus=part_cpus).remote(part) for part in parts]
    try:
        return ray.get(tracking)
    except (DataError, PassingError):
        raise
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise DataError(worker_died()) from error
    except (NodeDiedError, ObjectLostError) as error:
        raise PassingError("the cluster lost a node while it tracked parts of the video") from error
    except Exception:
        with plain_errors():  # what Ray or the machine lacks is no bug in this video
            raise


def _track(part: Part) -> TrackingResult:
    from pipeline.video.track import track_part  # imports torch, so it is here for workers only

    return track_part(part)


_track_remote = ray.remote(max_retries=PUBLISH_RETRIES)(_track)
