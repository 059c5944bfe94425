"""The pipeline of `process` with models that are loaded already, and the work of a whole video for it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.benchmarks.side_by_side import Spent, stopwatch
from pipeline.config import Config
from pipeline.errors import DataError, UserError
from pipeline.flow import local_engine
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.events import ChunkDone, Event, VideoDeferred, VideoDone, VideoFailed, Work
from pipeline.flow.local_process import At, Task, TaskRunner
from pipeline.flow.pools import Maps
from pipeline.media.probing import probe
from pipeline.planning import recipe
from pipeline.planning.spans import span_rows, spans_to_decode
from pipeline.storage.content_ids import content_id
from pipeline.storage.ledger import Ledger
from pipeline.storage.source_files import opener
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from pipeline.video.job import VideoJob
from pipeline.weights import Registry, local_path

WARM_UP = "package:ultralytics/assets/bus.jpg"


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One video that was processed.

    spent: time from the first row to the published tables.
    stages: s of the clock by stage.
    job: of its reduce, with its chunks.
    row: its row of `videos`.
    num_frames: decoded frames.
    num_analysed: analysed frames.
    num_detections: people in its analysed frames.
    """

    spent: Spent
    stages: Mapping[str, float]
    job: VideoJob
    row: Mapping[str, Any]
    num_frames: int
    num_analysed: int
    num_detections: int


class WarmPipeline:
    """Processes videos as the local engine does: the same rows, workers, stages, reduce and tables. The worker is this
    process, so that its CPU seconds are known, and its models stay loaded.

    folder: an empty folder for the output.
    """

    def __init__(self, config: Config, registry: Registry, folder: Path) -> None:
        self._config, self._registry = config, registry
        self.store = Store(str(folder))
        self._ledger = Ledger(self.store, recipe.keys(config, registry))
        self._worker = _Here(Maps.of(config, registry, self._ledger, "bench"))
        self._num_runs = 0

    def warm_up(self) -> None:
        """Load the models, and send a picture through everything."""
        self(Path(str(local_path(WARM_UP))))

    def __call__(self, video: Path) -> PipelineRun:
        """Process one video. It counts as a new video each time, so that nothing of it is durable yet."""
        self._num_runs += 1
        work = whole_video(str(video.absolute()), self._config, self._registry, self._ledger, number=self._num_runs)
        stages: dict[str, float] = defaultdict(float)
        spans, num_frames, num_detections, row = [], 0, 0, {}
        with stopwatch() as spent:
            for event in local_engine.run([work], self._worker.maps, self._worker, Deferrals([])):
                refuse_failure(event)
                if isinstance(event, ChunkDone):
                    spans.append(event.span)
                    num_frames += event.num_frames
                    num_detections += event.num_detections
                    for stage, (seconds, _) in event.timings.items():
                        stages[stage] += seconds
                elif isinstance(event, VideoDone):
                    stages[event.stage] += event.seconds
                    row = event.published.row
        job = work.job.with_chunks(tuple(sorted(spans)))
        return PipelineRun(spent, dict(stages), job, row, num_frames, row["num_analysed"], num_detections)


class _Here:
    """Does the tasks of the local engine in this process."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self._runner = TaskRunner(maps)

    def do(self, task: Task, patience_s: float) -> Iterator[At | Event]:
        """Yield the messages of `task`, as LocalWorker states."""
        del patience_s
        yield from self._runner.do(task)


def whole_video(uri: str, config: Config, registry: Registry, ledger: Ledger, *, number: int = 0) -> Work:
    """Return the work of a whole video of which nothing is durable.

    number: becomes part of its id, unless it is 0. With another number, the same file counts as another video.
    """
    try:
        video_id, probed = content_id(Source(uri=uri, name=uri, named_by=uri)), probe(opener(uri))
    except DataError as error:
        raise UserError(f"--clip {uri}: {error}; name another") from error
    name = Path(uri).name
    if number:
        video_id, name = f"{video_id}-{number}", f"{number}-{name}"
    job = VideoJob(
        video_id=video_id,
        uri=uri,
        probe=probed,
        chunks=(),
        csv_names=(f"csv/{name}.csv",),
        ledger=ledger,
        config=config,
        config_id=recipe.config_id(config, registry),
        spaces=recipe.spaces(config, registry),
        priors=recipe.priors(recipe.registry_likenesses(config, registry)),
    )
    spans = spans_to_decode(probed, config, [])
    return Work(job=job, rows=span_rows(video_id, uri, probed, spans))


def refuse_failure(event: Event) -> None:
    """Raise UserError if the event says that a video has failed."""
    if isinstance(event, VideoFailed | VideoDeferred):
        raise UserError(
            f"there is nothing to measure, the clip fails at {event.stage}: {event.reason}; name another --clip"
        )
