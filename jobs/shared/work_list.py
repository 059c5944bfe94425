"""The list of the work of a run: which contents it works on, and what is left to do for each."""

from collections.abc import Mapping, Sequence

from jobs.shared.run_record import RunRecord
from pipeline.flow.events import Work
from pipeline.media.probe import Probe
from pipeline.planning import catalog, spans
from pipeline.planning.catalog import Content, Failure, VideoStatus
from pipeline.planning.planner import VideoPlan
from pipeline.planning.recipe import priors
from pipeline.storage import tables
from pipeline.storage.ledger import Ledger
from pipeline.storage.tombstones import read_forgotten
from pipeline.video.job import VideoJob
from pipeline.video.relink import RelinkJob


def select_contents(record: RunRecord, contents: Sequence[Content], retry_quarantined: bool) -> list[Content]:
    """Return the contents that this run works on. For those that are done, write only the missing CSVs of their
    sources."""
    chosen = []
    existing: set[str] | None = None
    for content in contents:
        status = catalog.video_status(content, record.index, record.config_id)
        if status is VideoStatus.DONE:
            record.index.failed.pop(content.video_id, None)  # it was of another configuration
            if existing is None:
                existing = set(record.store.names("csv", hidden=True))
            for name in record.index.csv_names(content.video_id):
                if name not in existing:
                    tables.write_csv(record.store, content.video_id, name)
        elif content.video_id in record.costs or content.video_id in record.quarantined:
            continue  # its work in this run has ended, and another source of it was found later
        elif status in (VideoStatus.NEW, VideoStatus.CHANGED) or (
            status is VideoStatus.QUARANTINED and retry_quarantined
        ):
            chosen.append(content)
    return chosen


def list_work(
    record: RunRecord,
    chosen: Sequence[Content],
    plans: Mapping[str, VideoPlan],
    probes: Mapping[str, Probe | Failure],
) -> list[Work | RelinkJob]:
    """Return the remaining work of each video, longest first. A long video that began last would keep the cluster
    waiting.

    A video whose container cannot be read is quarantined, or deferred if that may pass.
    """
    in_sequences = {row["video_id"] for members in record.index.sequences().values() for row in members}
    jobs: list[Work | RelinkJob] = []
    for content in chosen:
        video_id, plan = content.video_id, plans[content.video_id]
        if plan.relink is not None:
            relink_job = RelinkJob(plan.relink, plan.basis)
            record.begin_video(video_id, relink_job.num_chunks)
            jobs.append(relink_job)
        elif isinstance(probed := probes[video_id], Failure):
            if probed.may_pass:
                record.defer(video_id, probed)
            else:
                kind = "Bug" if probed.bug else "DataError"
                record.quarantine(video_id, content.uri, probed, kind=kind, bug=probed.bug)
        else:
            record.begin_video(video_id, len(plan.durable))
            jobs.append(_work_from_chunks(record, content, plan, probed, video_id in in_sequences))
    return sorted(jobs, key=lambda job: (-job.duration_s, job.uri))


def _work_from_chunks(record: RunRecord, content: Content, plan: VideoPlan, probed: Probe, in_sequence: bool) -> Work:
    """Return the work of a video that is reduced from chunks, with a row for each chunk that is not durable yet."""
    video_id, recipe = content.video_id, record.target.recipe
    source = record.index.sources[content.uri]
    listed = (source["size_bytes"], source["etag"])
    kept = [*plan.durable, *(span for span, _ in plan.faces)]
    left = spans.spans_to_decode(probed, record.config, kept)
    job = VideoJob(
        video_id=video_id,
        uri=content.uri,
        probe=probed.without_keyframes(),
        chunks=plan.durable,
        csv_names=tuple(record.index.csv_names(video_id)),
        ledger=Ledger(record.store, plan.keys),
        config=record.config,
        config_id=record.config_id,
        may_be_published=record.index.videos.get(video_id, {}).get("status") == "done",
        spaces=recipe.spaces,
        priors=priors(recipe.likenesses),
        in_sequence=in_sequence,
        forgotten=read_forgotten(record.store, video_id) if video_id in record.index.tombstones.persons else (),
        listed=listed if left and None not in listed else None,
    )
    return Work(
        job,
        rows=spans.span_rows(video_id, content.uri, probed, left),
        faces=tuple(spans.FacesRow(video_id, content.uri, *span, key) for span, key in plan.faces),
    )
