"""Persons and tables of a published video, made again from its stored data. Nothing is decoded, and no model runs.

planning.relink says which stored data suffices. Every basis leads to the bytes that `process` would have published
under the new knobs. The new tables are written aside and replace the old ones when they are whole.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.errors import DataError
from pipeline.planning.changes import Basis
from pipeline.planning.relink import Relink
from pipeline.storage import records, replacement, tables
from pipeline.video.job import PublishedVideo
from pipeline.video.relink_chunks import publish_from_chunks
from pipeline.video.relink_scores import publish_from_scores


@dataclass(frozen=True, slots=True)
class RelinkJob:
    """The last step of a published video that needs no new chunks. It is linked again.

    relink: the video and its recipes.
    basis: the stored data that the new tables are made of.
    """

    relink: Relink
    basis: Basis

    @property
    def video_id(self) -> str:
        return self.relink.video_id

    @property
    def uri(self) -> str:
        return self.relink.row["uri"]

    @property
    def duration_s(self) -> float:
        return self.relink.row["duration_s"]

    @property
    def num_chunks(self) -> int:
        return 0 if self.basis is Basis.SCORES else len(self.relink.durable)


def publish_relinked(job: RelinkJob) -> PublishedVideo:
    """Link a video again and publish it, as reduce.reduce_video does for chunks. Raises DataError as `relink_video`
    does."""
    row = relink_video(job.relink, job.basis)
    return PublishedVideo(video_id=job.video_id, row=row, num_chunks=job.num_chunks)


def relink_video(task: Relink, basis: Basis) -> dict[str, Any]:
    """Publish a video again. Return its new row of `videos`.

    Raises DataError if its stored data cannot be read or does not fit together. Then its published tables are
    unchanged.
    """
    # If a worker died at the end of this function, the published tables are already the new ones and must not be linked
    # again.
    replacement.finish_replacing_video(task.store, task.video_id)
    if (row := records.read_video(task.store, task.video_id)) and row["config_id"] == task.config_id:
        return row
    place = replacement.aside(task.store, task.video_id)
    try:
        with tables.damage_is_a_fault():
            counts = (
                publish_from_scores(task, place) if basis is Basis.SCORES else publish_from_chunks(task, basis, place)
            )
    except DataError:
        replacement.finish_replacing_video(task.store, task.video_id)  # removes the half-written tables
        raise
    row = {**task.row, "config_id": task.config_id} | counts
    if task.before.biometrics.keep and not task.after.biometrics.keep:
        replacement.drop_table(task.store, task.video_id, "embeddings")
    if task.before.crossings.is_asked and not task.after.crossings.is_asked:
        replacement.drop_table(task.store, task.video_id, "crossings")
    records.write_video(place, row)
    replacement.replace_video(task.store, task.video_id)
    return row
