"""The work of a run, the events that it yields, and its progress. They are the same for every engine.

A run is a generator of events. Its caller keeps the run record and reports to the user. Completion is read from the
durable objects, never from the order of rows.
"""

import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyarrow as pa

from pipeline.errors import BUG, ChangedError, DataError, PassingError, described_bug, raise_of_all
from pipeline.flow import journal
from pipeline.flow.deferrals import Deferrals
from pipeline.flow.stage import ALREADY_DURABLE, WORKER_DIED
from pipeline.planning.spans import FacesRow, SpanRow
from pipeline.storage.ledger import ChunkSpan, is_whole
from pipeline.video.job import PublishedVideo, VideoJob
from pipeline.video.parts import RunParts
from pipeline.video.reduce import reduce_video
from pipeline.video.relink import RelinkJob, publish_relinked

PUBLISH_RETRIES = 3
"""Number of times that the last step of a video, or the linking of a sequence, is repeated after its worker died."""


Last = TypeVar("Last")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDone:
    """A chunk became durable.

    video_id: the video of the chunk.
    span: (first_cell, end_cell).
    num_frames: frames of the chunk.
    num_detections: people in its analysed frames, if this run has detected them.
    timings: (seconds, GPU-seconds) by stage.
    attempts: tries that the chunk took.
    """

    video_id: str
    span: ChunkSpan
    num_frames: int
    num_detections: int
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
    bug: the traceback, if an error that nobody foresaw ended the stage.
    kind: DataError, WorkerDied or Bug.
    """

    video_id: str
    stage: str
    reason: str
    bug: str | None = None
    kind: str = DataError.__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDeferred:
    """A file or table of a video cannot be reached for the moment. The next run takes the video up.

    video_id: id of the content.
    stage: the stage that failed.
    reason: text for the user.
    has_changed: whether the file has changed, so that this run does not try it again.
    """

    video_id: str
    stage: str
    reason: str
    has_changed: bool = False


Event = ChunkDone | VideoDone | VideoFailed | VideoDeferred


@dataclass(slots=True)
class Work:
    """The remaining work of one video that is reduced from chunks.

    job: the reduce of the video.
    rows: the spans to decode.
    faces: the chunks whose kept faces are estimated again.
    durable: its durable chunks, including those that this run makes.
    """

    job: VideoJob
    rows: tuple[SpanRow, ...] = ()
    faces: tuple[FacesRow, ...] = ()
    durable: set[ChunkSpan] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.durable.update(self.job.chunks)

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
        self.job = self.job.with_chunks(tuple(sorted(self.durable)))
        return True

    @property
    def is_whole(self) -> bool:
        """Return whether all chunks of the video are durable."""
        return is_whole(sorted(self.durable))

    def rows_left(self) -> tuple[SpanRow, ...]:
        """Return the spans that still have chunks to make, each without its durable chunks."""
        left = (row.without_durable(self.durable) for row in self.rows)
        return tuple(row for row in left if row is not None)

    def faces_left(self) -> tuple[FacesRow, ...]:
        """Return the chunks whose kept faces are still to be estimated."""
        return tuple(row for row in self.faces if (row.first_cell, row.end_cell) not in self.durable)


def finish_video(last: VideoJob | RelinkJob, run_parts: RunParts) -> VideoDone | VideoFailed | VideoDeferred:
    """Publish a video. Only an error of the user or the machine is raised, because it concerns all videos."""
    stage, started = _stage_of(last), time.perf_counter()
    with journal.working_on(video=last.video_id, stage=stage, hidden=last.uri):
        journal.note("publish_began")
        return _finish(last, run_parts, stage, started)


def _finish(
    last: VideoJob | RelinkJob, run_parts: RunParts, stage: str, started: float
) -> VideoDone | VideoFailed | VideoDeferred:
    try:
        published = publish_relinked(last) if isinstance(last, RelinkJob) else reduce_video(last, run_parts)
    except ChangedError as fault:
        return VideoDeferred(video_id=last.video_id, stage=stage, reason=str(fault), has_changed=True)
    except DataError as fault:
        return VideoFailed(video_id=last.video_id, stage=stage, reason=str(fault))
    except PassingError as fault:
        return VideoDeferred(video_id=last.video_id, stage=stage, reason=str(fault))
    except Exception as bug:
        raise_of_all(bug)
        return VideoFailed(
            video_id=last.video_id,
            stage=stage,
            reason=described_bug(bug),
            bug="".join(traceback.format_exception(bug)),
            kind=BUG,
        )
    return VideoDone(published=published, stage=stage, seconds=time.perf_counter() - started)


def given_up(last: VideoJob | RelinkJob, deaths: str) -> VideoFailed:
    """Return the event of a video whose workers die again and again in its last step."""
    return VideoFailed(video_id=last.video_id, stage=_stage_of(last), reason=worker_died(deaths), kind=WORKER_DIED)


def worker_died(deaths: str = f"{PUBLISH_RETRIES + 1} times") -> str:
    """Return the reason for giving up a video whose workers die again and again in its last step."""
    return f"its worker died {deaths} (memory, or a crash)"


def again(last: Last) -> Last:
    """Return the last step of a video for another try, after a worker that may have published it died."""
    return replace(last, may_be_published=True) if isinstance(last, VideoJob) else last


def _stage_of(last: VideoJob | RelinkJob) -> str:
    return "relink" if isinstance(last, RelinkJob) else "reduce"


class Progress:
    """The progress of the videos of a run.

    work: the work of the run.
    deferrals: the failures that may pass.

    `ready` holds the videos that can be published. Those that need nothing else come first.
    """

    def __init__(self, work: Sequence[Work | RelinkJob], deferrals: Deferrals) -> None:
        self.videos = {item.job.video_id: item for item in work if isinstance(item, Work)}
        self.relinks = {item.video_id: item for item in work if isinstance(item, RelinkJob)}
        self.ready: deque[VideoJob | RelinkJob] = deque(self.relinks.values())
        self.ready.extend(video.job for video in self.videos.values() if video.is_whole)
        self.deferrals = deferrals
        self._ended: set[str] = set()
        self._bugs: list[VideoFailed] = []
        self._published_any = False

    def is_wanted(self, video_id: str) -> bool:
        """Return whether more work on a video makes sense now. It makes none after a failure."""
        return video_id not in self._ended and not self.deferrals.waits(video_id)

    def take(self, event: Event) -> Iterator[Event]:
        """Yield the events that must be reported. Only the first failure of a video is reported, and nothing after
        it. Raises PassingError if so many videos cannot be reached that the run makes no sense."""
        video_id = event.published.video_id if isinstance(event, VideoDone) else event.video_id
        if video_id in self._ended:
            return
        if isinstance(event, VideoDeferred):
            if not event.has_changed and self.deferrals.fail(video_id, event.reason):
                return
            self._ended.add(video_id)
        elif isinstance(event, VideoFailed):
            self._ended.add(video_id)
            if event.bug and not self._published_any:
                self._bugs.append(event)
                return
        else:
            self.deferrals.succeed()
            if isinstance(event, ChunkDone) and self.videos[video_id].take(event.span):
                self.ready.append(self.videos[video_id].job)
        yield event
        if isinstance(event, VideoDone):
            self._published_any = True
            yield from self._bugs
            self._bugs.clear()

    def take_due(self) -> list[Work]:
        """Return the videos whose chunks are to be tried again now, after a failure that may have passed. Those that
        only have to be published become ready."""
        due = self.deferrals.take_due()
        self.ready.extend(self.relinks[video_id] for video_id in due if video_id in self.relinks)
        again = [self.videos[video_id] for video_id in due if video_id in self.videos]
        self.ready.extend(video.job for video in again if video.is_whole)
        return [video for video in again if not video.is_whole]

    def check_ended(self) -> None:
        """Raise RuntimeError if rows are missing of a video that was not given up, or if bugs ended every video that
        was to be published."""
        for video_id, video in self.videos.items():
            if video_id not in self._ended and not video.is_whole:
                raise RuntimeError(f"the map ended, and chunks of {video.job.uri} are missing: {sorted(video.durable)}")
        if self._bugs:
            raise RuntimeError(f"{self._bugs[0].reason}\n\n{self._bugs[0].bug}")


def event_of(row: pa.Table) -> ChunkDone | VideoFailed | VideoDeferred:
    """Return the event of a chunk's row that has gone through all pools."""
    chunk = row.to_pylist()[0]
    error = chunk["error"]
    if error and error["kind"] != ALREADY_DURABLE:
        reason, _, details = error["message"].partition("\n" if error["kind"] == BUG else "\0")
        failure = {"video_id": chunk["video_id"], "stage": error["stage"], "reason": reason}
        if error["kind"] in (PassingError.__name__, ChangedError.__name__):
            return VideoDeferred(**failure, has_changed=error["kind"] == ChangedError.__name__)
        return VideoFailed(**failure, kind=error["kind"], bug=details or None)
    return ChunkDone(
        video_id=chunk["video_id"],
        span=(chunk["first_cell"], chunk["end_cell"]),
        num_frames=chunk["num_frames"] or 0,
        num_detections=chunk["num_detections"] or 0,
        timings={timing["stage"]: (timing["seconds"], timing["gpu_seconds"]) for timing in chunk["timings"] or ()},
        attempts=chunk["attempts"],
    )
