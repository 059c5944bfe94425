"""What a run is given to do, and what it tells meanwhile, whatever carries it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.stages.flow import RowOfSpan
from pipeline.stages.reduce import Job, Published
from pipeline.storage.ledger import Span


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
    published: Published
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFailed:
    video_id: str
    stage: str
    reason: str


Event = ChunkDone | VideoDone | VideoFailed


@dataclass(slots=True)
class Work:
    """What is left of one video. job.spans are the chunks that are durable already; rows are the spans to decode."""

    job: Job
    rows: tuple[RowOfSpan, ...]
    durable: set[Span] = field(default_factory=set)
