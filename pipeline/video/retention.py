"""The videos of an output that are older than a limit."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.cores.retention import AgeBy
from pipeline.storage import tables
from pipeline.storage.output_index import OutputIndex

LATE = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AgedVideo:
    """A video with its moment.

    video_id: the content.
    at: the moment, UTC. None if it is not known.
    by: the kind of the moment.
    """

    video_id: str
    at: datetime | None
    by: AgeBy


def aged_videos(index: OutputIndex, by: AgeBy) -> list[AgedVideo]:
    """Return all videos of an output with the moments from which their age counts, the oldest first.

    A recording begins when the list of the source states it, else when the container states it. A video without such a
    time counts from its first processing, as all do under AgeBy.PROCESSED.
    Tables that are made again do not make it younger.
    """
    first_runs: dict[str, datetime] = {}
    for row in tables.read(index.store, "runs", ["video_id", "started_at"]).sort_by("started_at").to_pylist():
        first_runs.setdefault(row["video_id"], row["started_at"])
    listed: dict[str, datetime] = {}
    for row in sorted(index.sources.values(), key=lambda row: row["recorded_at"] or LATE):
        if row["recorded_at"] is not None:
            listed.setdefault(row["video_id"], row["recorded_at"])
    aged = []
    for video_id, row in index.videos.items():
        recorded_at = listed.get(video_id, row["recorded_at"])
        if by is AgeBy.RECORDED and recorded_at is not None:
            aged.append(AgedVideo(video_id, recorded_at, AgeBy.RECORDED))
        else:
            aged.append(AgedVideo(video_id, first_runs.get(video_id), AgeBy.PROCESSED))
    return sorted(aged, key=lambda video: (video.at or LATE, video.video_id))
