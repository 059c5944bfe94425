"""The choice of the engine that carries out a run. The engine is Ray, or one plain process beside this one for small
work.

The choice changes no byte. The stages, the pools and the durable objects are the same. Ray takes seconds to import,
so its modules are imported here only when they are needed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Self

from pipeline.child import Child
from pipeline.chunk.decoder import decoder_in_words
from pipeline.config import Config, cluster_address, load
from pipeline.errors import UserError
from pipeline.flow import local_engine, metrics
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import Event, Work
from pipeline.flow.local_child import asks_for_several
from pipeline.flow.local_engine import PublisherHere, WorkerProcess
from pipeline.flow.machine import this_machine
from pipeline.flow.pools import Maps
from pipeline.flow.sequence_ends import LinkAll, SequenceEnd, link_here, link_in_rounds
from pipeline.text import count
from pipeline.video.relink import RelinkJob
from pipeline.video.sequences import SequenceJob

SMALL_FRAMES = 1_000
"""Most analysed frames of small work. This is two minutes at 8 frames a second
(docs/decisions/0016-local-engine.md)."""
PUBLISHED_PER_MAPPED = 30
"""Number of frames that are tracked and linked in the time in which the models process one frame."""
RELINKED_PER_MAPPED = 200
"""Seconds of video that are linked again in the time in which the models process one frame."""
OF_RAY = (
    *("observe.cpus", "observe.gpus", "enrich.cpus", "enrich.gpus", "restore"),
    *("reduce_cpus", "max_reduces"),
)
"""Knobs of `run` that place workers, as only Ray does. Several workers lead to it (local_child.asks_for_several)."""
SMALL_SEQUENCES = 100
"""Most files of sequences whose linking is small work."""


class Engines:
    """Both engines. The one that suits the work is started as soon as it is known to be needed. `say` reports which.

    early: the process of the local engine, if it has started already (local_child).
    """

    def __init__(self, config: Config, maps: Maps, say: Callable[[str], None], early: Child | None = None) -> None:
        self._config, self._maps, self._say = config, maps, say
        self._worker, self._early = WorkerProcess(maps, early), early
        self._is_ray_there = False
        self._can_ray_start = True
        self._has_said_decoder = False
        self._has_said_local = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        stop_ray()

    def begin(self, num_videos: float, *, with_pixels: bool) -> None:
        """Start the engine that so many videos will probably need, while they are still being probed.

        num_videos: infinity if it is not known yet.
        with_pixels: whether some of the videos must be decoded.
        """
        if with_pixels and not self._has_said_decoder:
            self._has_said_decoder = True
            if words := decoder_in_words(self._config):
                self._say(words)
        if self._is_ray_there:
            return
        if self._wants_ray(is_mapped=True, is_large=num_videos > SMALL_FRAMES):
            self._start_ray()
        elif with_pixels:
            self._worker.load()

    def run(self, work: Sequence[Work | RelinkJob]) -> Iterator[Event]:
        """Carry out `work`. The videos that need no new chunks come first."""
        relinks = [item for item in work if isinstance(item, RelinkJob)]
        is_large = count_frames(work, self._config) > SMALL_FRAMES
        if not self._is_ray_there and self._wants_ray(is_mapped=len(relinks) < len(work), is_large=is_large):
            self._worker.close()
            self._start_ray()
        if self._is_ray_there:
            from pipeline.flow import ray_engine

            yield from ray_engine.run(work, self._maps.whole, self._config, self._maps.kept_faces)
        else:
            if len(relinks) < len(work) and self._can_ray_start and not self._has_said_local:
                self._has_said_local = True
                self._say(local_in_words(self._config))
            worker = self._worker if len(relinks) < len(work) else PublisherHere()
            yield from local_engine.run(work, self._maps, worker, Deferrals(self._config.run.deferral_waits_s))

    def link_sequences(self, jobs: Sequence[SequenceJob]) -> Iterator[SequenceEnd]:
        """Link the files of each sequence. Yield how the work on each of them ends."""
        yield from link_in_rounds(jobs, self._link_all(jobs), Deferrals(self._config.run.deferral_waits_s))

    def _link_all(self, jobs: Sequence[SequenceJob]) -> LinkAll:
        """Return the function that links these sequences, here or on Ray."""
        num_files = sum(len(job.members) for job in jobs)
        # Each sequence is one task, so a single one is no faster on Ray.
        is_large = len(jobs) > 1 and num_files > SMALL_SEQUENCES
        if not self._wants_ray(is_mapped=False, is_large=is_large):
            return link_here
        if not self._is_ray_there:
            self._start_ray()
        if not self._is_ray_there:
            return link_here
        from pipeline.flow import ray_engine

        return partial(ray_engine.link_sequences, config=self._config)

    def join_cluster(self) -> None:
        """Connect to the cluster that the configuration names, if no work has needed it, so that the metrics of the
        run reach it. A cluster that cannot be reached changes nothing."""
        if self._is_ray_there or cluster_address(self._config) is None:
            return
        from pipeline.flow import cluster

        with suppress(UserError):
            cluster.start_ray(self._config, self._say)
        metrics.deliver()

    def _wants_ray(self, *, is_mapped: bool, is_large: bool) -> bool:
        """Return whether Ray should carry out the work. `is_mapped` says that the pools have something to do."""
        return self._can_ray_start and wants_ray(self._config, is_mapped=is_mapped, is_large=is_large)

    def _start_ray(self) -> None:
        """Start Ray. If it cannot start and the user did not ask for it, the run goes on in one worker process."""
        self._say("starting Ray")
        from pipeline.flow import cluster

        try:
            cluster.start_ray(self._config, self._say)
        except UserError as error:
            if self._config.run.engine != "auto" or cluster_address(self._config):
                raise
            self._can_ray_start = False
            self._say(f"{str(error).splitlines()[0]}; going on in one process without Ray, which is slower")
            return
        self._is_ray_there = True
        if self._early is not None:
            self._early.close()
        cluster.check_room(self._config, self._maps.whole, self._say)


def wants_ray(config: Config, *, is_mapped: bool, is_large: bool) -> bool:
    """Return whether the configuration lets Ray carry out the work.

    is_mapped: the pools have something to do.
    is_large: the work has more than SMALL_FRAMES frames.
    """
    if config.run.engine != "auto":
        return config.run.engine == "ray"
    return is_large or (is_mapped and asks_for_several(config)) or cluster_address(config) is not None


def local_in_words(config: Config) -> str:
    """Return for the user that one process does the work, with how many cores, and why."""
    why = "run.engine=local" if config.run.engine == "local" else f"at most {SMALL_FRAMES:,} frames; run.engine"
    words = f"one worker process for {count(int(this_machine().cpus), 'CPU')}, without Ray ({why})"
    if idle := _without_effect(config):
        words += f"; only with Ray {'has' if len(idle) == 1 else 'have'} {' and '.join(idle)} an effect"
    return words


def _without_effect(config: Config) -> list[str]:
    """Return the knobs of `run` that were changed and that one worker process does not follow."""
    usual = load().run
    return [f"run.{knob}" for knob in OF_RAY if attrgetter(knob)(config.run) != attrgetter(knob)(usual)]


def count_frames(work: Sequence[Work | RelinkJob], config: Config) -> float:
    """Return the approximate number of frames to process. A picture counts as one frame. A video that is only linked
    counts for its share of the time."""
    num_frames = 0.0
    for item in work:
        if isinstance(item, RelinkJob):
            num_frames += item.duration_s / RELINKED_PER_MAPPED
            continue
        frames = max(1.0, item.duration_s * (config.observe.fps or float(item.job.probe.fps)))
        num_frames += frames if item.rows or item.faces else frames / PUBLISHED_PER_MAPPED
    return num_frames


def stop_ray() -> None:
    """Stop Ray, if it was started."""
    if "pipeline.flow.cluster" in sys.modules:
        from pipeline.flow import cluster

        cluster.stop_ray()
