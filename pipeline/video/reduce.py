"""Reduce one video from durable chunks to published tables. Shots are tracked in order across all chunk borders.

This module is the list of the steps. It does not use Ray. The argument `run_parts` carries out the parts of the
tracking. Detections, embeddings and tracking results are read one window at a time. Memory holds a time per frame, a
short row per face, and one summary per tracklet.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from pipeline import rows
from pipeline.cores.likeness import Likenesses
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.linking import link
from pipeline.errors import ChangedError
from pipeline.media.warnings import describe_warnings
from pipeline.storage import records, replacement
from pipeline.storage.ledger import summary_name
from pipeline.storage.source_files import check_unchanged
from pipeline.storage.store import Store
from pipeline.video.biometrics import write_embeddings, write_summaries
from pipeline.video.blocks import BlockReader, TrackingResult
from pipeline.video.faces import read_faces
from pipeline.video.facts import collect_facts
from pipeline.video.job import PublishedVideo, VideoChunks, VideoJob
from pipeline.video.parts import RunParts, plan_parts
from pipeline.video.publish import conclude, leave_out, publish
from pipeline.video.scenes import find_scenes
from pipeline.video.timeline import NOMINAL_FPS, Timeline, read_timeline
from pipeline.video.tracklets import summarise_shots


def reduce_video(job: VideoJob, run_parts: RunParts) -> PublishedVideo:
    """Cut, track, link and publish a video. Raises DataError if there is nothing to publish.

    The tables of an earlier publication stay until the new ones are whole. Raises ChangedError if the source has
    changed since it was listed. Its chunks may then show another content than the one that it was identified by.
    """
    if job.listed is not None:
        try:
            check_unchanged(job.uri, *job.listed)
        except ChangedError:
            if not job.may_be_published:  # its kept chunks are of the same content id
                job.ledger.clear(job.video_id)
            raise
    row = _replace(job, run_parts) if job.may_be_published else _publish_new(job, run_parts)
    if not job.config.biometrics.keep or job.forgotten:  # chunks hold the forgotten persons as well
        job.ledger.clear(job.video_id)
    return PublishedVideo(video_id=job.video_id, row=row, num_chunks=len(job.chunks))


def _publish_new(job: VideoJob, run_parts: RunParts) -> dict[str, Any]:
    """Publish a video of which the output has no tables. Return its row of `videos`."""
    row = _write_tables(job, run_parts, job.ledger.store)
    records.write_video(job.ledger.store, row)
    return row


def _replace(job: VideoJob, run_parts: RunParts) -> dict[str, Any]:
    """Write the tables of a video aside, and let them replace the published ones when they are whole. Return its row of
    `videos`."""
    store, video_id = job.ledger.store, job.video_id
    # If a worker died at the end of this function, the published tables are already the new ones, and their chunks may
    # be gone.
    replacement.finish_replacing_video(store, video_id)
    if (row := records.read_video(store, video_id)) and (row["status"], row["config_id"]) == ("done", job.config_id):
        return row
    place = replacement.aside(store, video_id)
    try:
        row = _write_tables(job, run_parts, place)
    except Exception:
        replacement.finish_replacing_video(store, video_id)  # removes the half-written tables
        raise
    if not job.config.biometrics.keep:
        replacement.drop_table(store, video_id, "embeddings")
    if not job.config.crossings.is_asked:
        replacement.drop_table(store, video_id, "crossings")
    records.write_video(place, row)
    replacement.replace_video(store, video_id)
    if not (job.config.biometrics.keep or job.in_sequence):
        store.delete(summary_name(video_id))
    return row


def _write_tables(job: VideoJob, run_parts: RunParts, store: Store) -> dict[str, Any]:
    """Write every table except `videos` into `store`. Return the row of `videos`."""
    timeline = read_timeline(job, round(1e9 / (float(job.probe.fps) or NOMINAL_FPS)))
    counts = publish_chunks(job, timeline, run_parts, store)
    return _video_row(job, timeline) | counts


def publish_chunks(
    job: VideoChunks, timeline: Timeline, run_parts: RunParts, store: Store, likenesses: Likenesses | None = None
) -> dict[str, int]:
    """Write every table except `videos` into `store`. Return the values of num_shots and num_persons for `videos`.

    likenesses: calibrated similarities, if they are known already.
    """
    from pipeline.media.cuts import find_shots  # no chunk needs PySceneDetect

    shots = find_shots(
        timeline.times_ns,
        *timeline.differences.T,
        pixels=timeline.thumbnail_pixels,
        threshold=job.config.cuts.threshold,
        min_shot_s=job.config.cuts.min_shot_s,
    )
    try:
        tracked = TrackingResult.joined(list(run_parts(plan_parts(job, timeline, shots))))
        return _publish_tracked(job, timeline, shots, tracked, store, likenesses)
    finally:
        job.ledger.clear_tracked(job.video_id)


def _publish_tracked(
    job: VideoChunks,
    timeline: Timeline,
    shots: Sequence[tuple[int, int]],
    tracked: TrackingResult,
    store: Store,
    likenesses: Likenesses | None,
) -> dict[str, int]:
    boxes = BlockReader(job.ledger, tracked.blocks)
    faces = read_faces(job, timeline, tracked, boxes)
    tracklets = summarise_shots(job, timeline, shots, tracked, boxes, faces)
    ordered = [tracklets.summaries[index] for index in np.argsort(tracklets.ids)]
    likenesses = likenesses or calibrate(ordered, job.priors)
    scenes = find_scenes(job, timeline, shots, boxes)
    links, labels = link(ordered, job.config.identity, likenesses, scenes)
    facts = collect_facts(job, timeline, shots, tracked, boxes, faces, tracklets, likenesses)
    people = leave_out(facts, conclude(facts, links, labels, job.config.person), job.forgotten)
    publish(store, facts, people, job.csv_names, job.config.crossings)
    write_embeddings(store, job, tracked, faces, tracklets.ids, people.left_out)
    write_summaries(store, job, timeline, ordered, people.left_out)
    return {"num_shots": len(shots), "num_persons": people.num_persons}


def _video_row(job: VideoJob, timeline: Timeline) -> dict[str, Any]:
    cell_seconds = job.config.chunk.cell_seconds
    recorded_at = datetime.fromisoformat(job.probe.recorded_at) if job.probe.recorded_at else None
    return dict.fromkeys(rows.DATASETS["videos"].names) | {
        "video_id": job.video_id,
        "uri": job.uri,
        "status": "done",
        "warning": describe_warnings(job.probe, timeline.notes, timeline.times_ns, cell_seconds),
        "config_id": job.config_id,
        "width": timeline.width,
        "height": timeline.height,
        "fps": None if job.probe.kind == "image" else round(float(job.probe.fps), 6) or None,
        "duration_s": float(timeline.seconds(np.array([len(timeline)]))[0]),
        "num_frames": len(timeline),
        "num_analysed": int(timeline.analysed.sum()),
        "recorded_at": recorded_at,
    }
