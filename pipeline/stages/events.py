"""What a run is given to do, what it tells meanwhile, and how far it is: the same whatever carries it out.

A run is a generator of events; whoever drives it keeps the books and talks to the person. Completion is read from what
is durable, never from the order of rows.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.stages.flow import RowOfSpan
from pipeline.stages.reduce import Job, Published, Spread, reduce_video
from pipeline.stages.relink import Again, publish_again
from pipeline.storage.ledger import Span, is_whole

PUBLISH_RETRIES = 3
"""How often the last step of a video begins again whose worker died."""


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


def given_up(last: Job | Again) -> VideoFailed:
    """What becomes of a video at whose last step workers die over and over again."""
    reason = f"its worker died {PUBLISH_RETRIES + 1} times (memory, or a crash)"
    return VideoFailed(video_id=last.video_id, stage="relink" if isinstance(last, Again) else "reduce", reason=reason)


class Progress:
    """How far the videos of a run are. ready: those that can be published, first of all those of which nothing else is
    left."""

    def __init__(self, work: Sequence[Work | Again]) -> None:
        self.videos = {one.job.video_id: one for one in work if isinstance(one, Work)}
        self.ready: deque[Job | Again] = deque(one for one in work if isinstance(one, Again))
        self.ready.extend(one.job for one in self.videos.values() if one.is_whole)
        self.failed: set[str] = set()

    def take(self, event: Event) -> Iterator[Event]:
        """What is to be told of an event. Once is enough of a video that is given up."""
        video_id = event.published.video_id if isinstance(event, VideoDone) else event.video_id
        if video_id in self.failed:
            return
        if isinstance(event, VideoFailed):
            self.failed.add(video_id)
        elif isinstance(event, ChunkDone) and self.videos[video_id].take(event.span):
            self.ready.append(self.videos[video_id].job)
        yield event

    def check_ended(self) -> None:
        """Raises RuntimeError where rows are missing of a video that was not given up."""
        for video_id, one in self.videos.items():
            if video_id not in self.failed and not one.is_whole:
                raise RuntimeError(f"the map ended, and chunks of {one.job.uri} are missing: {sorted(one.durable)}")


def event_of(row: pa.Table) -> ChunkDone | VideoFailed:
    """What the row of a chunk says that has gone through all pools."""
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
