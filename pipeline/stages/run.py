"""Run the flow on Ray: map the spans through the pools, reduce each video as soon as its last chunk is durable.

A run is a generator of events; whoever drives it keeps the books and talks to the person. Completion is read from what
is durable, never from the order of rows.
"""

import json
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from pipeline.config import Config
from pipeline.stages.base import PoolOfStages, Worker
from pipeline.stages.cluster import WAIT_FOR_ACTORS_S, plain_errors
from pipeline.stages.events import ChunkDone, Event, VideoDone, VideoFailed, Work, carry_out
from pipeline.stages.flow import RowOfSpan
from pipeline.stages.reduce import Job, Part
from pipeline.stages.relink import Again
from pipeline.stages.sequence import SequenceJob, link_here
from pipeline.stages.tracked import Tracked

ROWS_BETWEEN_POOLS_BYTES = 256 << 20
POLL_S = 0.5
PART_RETRIES = 3


def run(
    work: Sequence[Work | Again],
    pools: Sequence[PoolOfStages],
    config: Config,
    pools_of_kept_faces: Sequence[PoolOfStages] = (),
) -> Iterator[Event]:
    """Carry out `work`, first of all what needs no chunks to be made. Leaves Ray running."""
    with plain_errors():
        yield from _Run(work, config).events(pools, pools_of_kept_faces)


def link_sequences(jobs: Sequence[SequenceJob], config: Config) -> dict[str, str]:
    """As sequence.link_here, a task for each."""
    cpus = config.run.reduce_cpus
    faults: dict[str, str] = {}
    with plain_errors():
        waiting = [_link_here.options(num_cpus=cpus).remote([job]) for job in jobs]
        while waiting:
            finished, waiting = ray.wait(waiting)
            for reference in finished:
                faults |= ray.get(reference)
    return faults


class _Run:
    def __init__(self, work: Sequence[Work | Again], config: Config) -> None:
        self._config = config
        self._by_id = {one.job.video_id: one for one in work if isinstance(one, Work)}
        self._ready: deque[Job | Again] = deque(one for one in work if isinstance(one, Again))
        self._ready.extend(one.job for one in self._by_id.values() if one.is_whole)
        self._reducing: dict[Any, str] = {}
        self._failed: set[str] = set()

    def events(self, pools: Sequence[PoolOfStages], pools_of_kept_faces: Sequence[PoolOfStages]) -> Iterator[Event]:
        spans = [row for one in self._by_id.values() for row in one.rows]
        faces = [row for one in self._by_id.values() for row in one.faces]
        maps = [each for each in ((faces, pools_of_kept_faces), (spans, pools)) if each[0]]
        arrivals: queue.Queue[Any] = queue.Queue()
        num_mapping = len(maps)
        if maps:
            threading.Thread(target=_map_all, args=(maps, arrivals), daemon=True).start()
        while num_mapping or self._ready or self._reducing:
            self._start_reduces()
            if num_mapping:
                for row in _arrived(arrivals, POLL_S):
                    if row is None:
                        num_mapping -= 1
                    else:
                        yield from self._take(_event(row))
            yield from self._reduced(0 if num_mapping else POLL_S)
        for video_id, one in self._by_id.items():
            if video_id not in self._failed and not one.is_whole:
                raise RuntimeError(f"the map ended, and chunks of {one.job.uri} are missing: {sorted(one.durable)}")

    def _start_reduces(self) -> None:
        cpus = self._config.run.reduce_cpus
        while self._ready and len(self._reducing) < self._config.run.max_reduces:
            last = self._ready.popleft()
            self._reducing[_reduce.options(num_cpus=cpus).remote(last, cpus)] = last.video_id

    def _take(self, event: ChunkDone | VideoFailed) -> Iterator[Event]:
        if event.video_id in self._failed:  # another chunk of it; once is enough
            return
        if isinstance(event, VideoFailed):
            self._failed.add(event.video_id)
        else:
            one = self._by_id[event.video_id]
            if one.take(event.span):
                self._ready.append(one.job)
        yield event

    def _reduced(self, timeout_s: float) -> Iterator[Event]:
        if not self._reducing:
            return
        waiting = list(self._reducing)
        finished, _ = ray.wait(waiting, num_returns=len(waiting) if timeout_s == 0 else 1, timeout=timeout_s)
        for reference in finished:
            video_id = self._reducing.pop(reference)
            try:
                outcome = ray.get(reference)
            except (WorkerCrashedError, OutOfMemoryError):  # over and over again: not what befalls every video
                reason = f"its worker died {PART_RETRIES + 1} times (memory, or a crash)"
                outcome = VideoFailed(video_id=video_id, stage="reduce", reason=reason)
            if isinstance(outcome, VideoFailed):
                self._failed.add(video_id)
            yield outcome


def _map_all(maps: Sequence[tuple[Sequence[RowOfSpan], Sequence[PoolOfStages]]], arrivals: "queue.Queue[Any]") -> None:
    """One after the other: pools of two maps would not fit beside each other."""
    for rows, pools in maps:
        _map(rows, pools, arrivals)


def _map(spans: Sequence[RowOfSpan], pools: Sequence[PoolOfStages], arrivals: "queue.Queue[Any]") -> None:
    """Put every row that comes out of the pools into `arrivals`, at last None, or what went wrong."""
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # one row, one block
        context.wait_for_min_actors_s = WAIT_FOR_ACTORS_S
        context.execution_options.preserve_order = False
        context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
            object_store_memory=ROWS_BETWEEN_POOLS_BYTES
        )
        dataset = ray.data.from_items([json.loads(span) for span in spans], override_num_blocks=len(spans))
        for pool in pools:
            dataset = _extend(dataset, pool)
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in cast(Iterator[pa.Table], batches):
            for i in range(batch.num_rows):
                arrivals.put(batch.slice(i, 1))
        arrivals.put(None)
    except BaseException as error:
        arrivals.put(error)


def _extend(dataset: ray.data.Dataset, pool: PoolOfStages) -> ray.data.Dataset:
    """Put the stages of `pool` at the end of `dataset`, in actors of their own."""
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(pool,),
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=pool.resources.num_cpus,
        num_gpus=pool.resources.num_gpus,
        compute=ray.data.ActorPoolStrategy(
            min_size=pool.resources.min_workers,
            max_size=pool.resources.max_workers,
            initial_size=pool.resources.min_workers,
        ),
    )


def _arrived(arrivals: "queue.Queue[Any]", timeout_s: float) -> Iterator[pa.Table | None]:
    """What has come, waiting a little for the first."""
    try:
        item = arrivals.get(timeout=timeout_s)
        while True:
            if isinstance(item, BaseException):
                raise item
            yield item
            item = arrivals.get_nowait()
    except queue.Empty:
        return


def _event(row: pa.Table) -> ChunkDone | VideoFailed:
    chunk = row.to_pylist()[0]
    if error := chunk["error"]:
        return VideoFailed(video_id=chunk["video_id"], stage=error["stage"], reason=error["message"])
    return ChunkDone(
        video_id=chunk["video_id"],
        span=(chunk["first_cell"], chunk["end_cell"]),
        num_frames=chunk["num_frames"],
        timings={each["stage"]: (each["seconds"], each["gpu_seconds"]) for each in chunk["timings"]},
        attempts=chunk["attempts"],
    )


@ray.remote(max_retries=PART_RETRIES)
def _reduce(last: Job | Again, part_cpus: float) -> VideoDone | VideoFailed:
    return carry_out(last, partial(spread, part_cpus=part_cpus))


_link_here = ray.remote(max_retries=PART_RETRIES)(link_here)


def spread(parts: Sequence[Part], part_cpus: float) -> Sequence[Tracked]:
    """Track parts on the cluster; a single one here."""
    if len(parts) < 2:
        return [_track(part) for part in parts]
    # While the task that calls this waits, Ray lends its CPUs to the parts.
    return ray.get([_track_remote.options(num_cpus=part_cpus).remote(part) for part in parts])


def _track(part: Part) -> Tracked:
    from pipeline.stages.track import track_part  # torch, in workers only

    return track_part(part)


_track_remote = ray.remote(max_retries=PART_RETRIES)(_track)
