"""What a run is given to do, and what it tells meanwhile, whatever carries it out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import DataError
from pipeline.stages.flow import RowOfSpan
from pipeline.stages.reduce import Job, Published, Spread, reduce_video
from pipeline.stages.relink import Again, publish_again
from pipeline.storage.ledger import Span, is_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDone:
    """A chunk became durable. timings: stage -> (seconds, GPU-seconds)."""

    video_id: str
    span: Span
    num_frames: int
    timings: Mapping[str, tuple[float, float]]
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDone:
    """stage: what published it, reduce or relink."""

    published: Published
    stage: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFailed:
    video_id: str
    stage: str
    reason: str


Event = ChunkDone | VideoDone | VideoFailed


@dataclass(slots=True)
class Work:
    """What is left of one video that is reduced from chunks.

    rows: the spans to decode. faces: the chunks whose kept faces are estimated again. durable: its chunks, those that
    this run makes included.
    """

    job: Job
    rows: tuple[RowOfSpan, ...] = ()
    faces: tuple[RowOfSpan, ...] = ()
    durable: set[Span] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.durable.update(self.job.spans)

    @property
    def uri(self) -> str:
        return self.job.uri

    @property
    def duration_s(self) -> float:
        return self.job.probe.duration_s

    def take(self, span: Span) -> bool:
        """Note that a chunk has become durable; returns whether it was the last."""
        self.durable.add(span)
        if not self.is_whole:
            return False
        self.job = self.job.with_spans(tuple(sorted(self.durable)))
        return True

    @property
    def is_whole(self) -> bool:
        return is_whole(sorted(self.durable))


def carry_out(last: Job | Again, spread: Spread) -> VideoDone | VideoFailed:
    """Publish a video. A fault of the data comes back as such; anything else is a bug and raises."""
    stage, started = "relink" if isinstance(last, Again) else "reduce", time.perf_counter()
    try:
        published = publish_again(last) if isinstance(last, Again) else reduce_video(last, spread)
    except DataError as fault:
        return VideoFailed(video_id=last.video_id, stage=stage, reason=str(fault))
    return VideoDone(published=published, stage=stage, seconds=time.perf_counter() - started)
