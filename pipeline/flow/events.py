"""The work of a run, the events that it yields, and its progress. They are the same for every engine.

A run is a generator of events. Its caller keeps the run record and reports to the user. Completion is read from the
durable objects, never from the order of rows.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.planning.spans import RowOfSpan
from pipeline.storage.ledger import ChunkSpan, is_whole
from pipeline.video.job import PublishedVideo, VideoJob
from pipeline.video.parts import RunParts
from pipeline.video.reduce import reduce_video
from pipeline.video.relink import RelinkJob, publish_relinked

PUBLISH_RETRIES = 3
"""Number of times that the last step of a video is repeated after its worker died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDone:
    """A chunk became durable.

    video_id: the video of the chunk.
    span: (first_cell, end_cell).
    num_frames: frames of the chunk.
    timings: (seconds, GPU-seconds) by stage.
    attempts: tries that the chunk took.
    """

    video_id: str
    span: ChunkSpan
    num_frames: int
    timings: Mapping[str, tuple[float, float]]
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDone:
    """A video was published.

    published: its row of `videos`, and the number of its chunks.
    stage: the stage that published it, reduce or relink.
    seconds: duration of that stage.
    """

    published: PublishedVideo
    stage: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFailed:
    """A video was given up.

    video_id: id of the content.
    stage: the stage that failed.
    reason: text for the user.
    """

    video_id: str
    stage: str
    reason: str


Event = ChunkDone | VideoDone | VideoFailed


@dataclass(slots=True)
class Work:
    """The remaining work of one video that is reduced from chunks.

    job: the reduce of the video.
    rows: the spans to decode.
    faces: the chunks whose kept faces are estimated again.
    durable: its durable chunks, including those that this run makes.
    """

    job: VideoJob
    rows: tuple[RowOfSpan, ...] = ()
    faces: tuple[RowOfSpan, ...] = ()
    durable: set[ChunkSpan] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.durable.update(self.job.spans)

    @property
    def uri(self) -> str:
        """Return the URI of the video's source."""
        return self.job.uri

    @property
    def duration_s(self) -> float:
        """Return the duration of the video in seconds."""
        return self.job.probe.duration_s

    def take(self, span: ChunkSpan) -> bool:
        """Note that a chunk has become durable. Return whether it was the last one."""
        self.durable.add(span)
        if not self.is_whole:
            return False
        self.job = self.job.with_spans(tuple(sorted(self.durable)))
        return True

    @property
    def is_whole(self) -> bool:
        """Return whether all chunks of the video are durable."""
        return is_whole(sorted(self.durable))


def finish_video(last: VideoJob | RelinkJob, run_parts: RunParts) -> VideoDone | VideoFailed:
    """Publish a video. Return bad data as VideoFailed. Any other error is a bug and is raised."""
    stage, started = "relink" if isinstance(last, RelinkJob) else "reduce", time.perf_counter()
    try:
        published = publish_relinked(last) if isinstance(last, RelinkJob) else reduce_video(last, run_parts)
    except DataError as fault:
        return VideoFailed(video_id=last.video_id, stage=stage, reason=str(fault))
    return VideoDone(published=published, stage=stage, seconds=time.perf_counter() - started)


def given_up(last: VideoJob | RelinkJob) -> VideoFailed:
    """Return the event of a video whose workers die again and again in its last step."""
    reason = f"its worker died {PUBLISH_RETRIES + 1} times (memory, or a crash)"
    return VideoFailed(
        video_id=last.video_id, stage="relink" if isinstance(last, RelinkJob) else "reduce", reason=reason
    )


class Progress:
    """The progress of the videos of a run.

    `ready` holds the videos that can be published. Those that need nothing else come first.
    """

    def __init__(self, work: Sequence[Work | RelinkJob]) -> None:
        self.videos = {item.job.video_id: item for item in work if isinstance(item, Work)}
        self.ready: deque[VideoJob | RelinkJob] = deque(item for item in work if isinstance(item, RelinkJob))
        self.ready.extend(video.job for video in self.videos.values() if video.is_whole)
        self.failed: set[str] = set()

    def take(self, event: Event) -> Iterator[Event]:
        """Yield an event if it must be reported. Only the first failure of a video is reported, and nothing after
        it."""
        video_id = event.published.video_id if isinstance(event, VideoDone) else event.video_id
        if video_id in self.failed:
            return
        if isinstance(event, VideoFailed):
            self.failed.add(video_id)
        elif isinstance(event, ChunkDone) and self.videos[video_id].take(event.span):
            self.ready.append(self.videos[video_id].job)
        yield event

    def check_ended(self) -> None:
        """Raise RuntimeError if rows are missing of a video that was not given up."""
        for video_id, video in self.videos.items():
            if video_id not in self.failed and not video.is_whole:
                raise RuntimeError(f"the map ended, and chunks of {video.job.uri} are missing: {sorted(video.durable)}")


def event_of(row: pa.Table) -> ChunkDone | VideoFailed:
    """Return the event of a chunk's row that has gone through all pools."""
    chunk = row.to_pylist()[0]
    if error := chunk["error"]:
        return VideoFailed(video_id=chunk["video_id"], stage=error["stage"], reason=error["message"])
    return ChunkDone(
        video_id=chunk["video_id"],
        span=(chunk["first_cell"], chunk["end_cell"]),
        num_frames=chunk["num_frames"],
        timings={timing["stage"]: (timing["seconds"], timing["gpu_seconds"]) for timing in chunk["timings"]},
        attempts=chunk["attempts"],
    )
