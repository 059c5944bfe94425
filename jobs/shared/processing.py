"""The steps of a run of `process`, from the listed sources to the tables."""

import contextlib
import math
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from jobs.cli import console
from jobs.shared.checks import check_tracking, decide_device, machine_of
from jobs.shared.cleanup import clear_work, prune_output
from jobs.shared.holding import holding
from jobs.shared.process_messages import (
    say_models,
    say_not_relinked,
    say_plans,
    say_pruned,
    say_results,
    say_sources,
    say_vanished,
    say_work,
)
from jobs.shared.run_journal import events_of, keeping_journal, telling_progress
from jobs.shared.run_json import last_success, new_run_id
from jobs.shared.run_record import RunRecord
from jobs.shared.sources import portions_aloud, probe_aloud
from jobs.shared.work_list import list_work, select_contents
from pipeline.child import Child
from pipeline.config import Config
from pipeline.errors import MachineError, PassingError
from pipeline.flow.engine import Engines, stop_ray
from pipeline.flow.events import ChunkDone, VideoDone, Work
from pipeline.flow.pools import Maps
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, Failure
from pipeline.planning.changes import Basis
from pipeline.planning.pages import Pages, Portion
from pipeline.planning.planner import Planner, VideoPlan, WantedTables
from pipeline.storage import event_log, records, replacement, tables
from pipeline.storage.event_log import EventTarget
from pipeline.storage.ledger import WORK, Ledger
from pipeline.storage.listing import OpenListing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing
from pipeline.storage.store import Store
from pipeline.video import forgetting, sequences
from pipeline.video.relink import RelinkJob
from pipeline.weights import Registry

QUARANTINED, DEFERRED = 3, 4
"""The exit status of a run that has quarantined a source, and of one that has left a source to the next run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is not done at the end of a run.

    num_quarantined: number of sources that were given up.
    num_deferred: number of sources and sequences that could not be reached and are left to the next run.
    num_not_copied: number of videos and pictures that could not be annotated.
    """

    num_quarantined: int
    num_deferred: int
    num_not_copied: int = 0

    def status(self, *, allow_quarantined: bool = False) -> int:
        """Return the exit status."""
        if self.num_deferred:
            return DEFERRED
        return QUARANTINED if self.num_not_copied or (self.num_quarantined and not allow_quarantined) else 0


def work_through(
    listing: Listing | OpenListing,
    config: Config,
    registry: Registry,
    store: Store,
    *,
    retry_quarantined: bool = False,
    prune: bool = False,
    close_sequences: bool = False,
    wait_lease_s: float = 0.0,
    early: Child | None = None,
) -> Outcome:
    """Process the listed sources. Return which of them are not done.

    early: the process of the local engine, if it has started already.

    Raises LeaseError if another run holds the output and goes on to do so for `wait_lease_s`.
    """
    run_id = new_run_id()
    store.check_writable()
    listing = OpenListing.of(listing) if isinstance(listing, Listing) else listing
    say_sources(listing)
    say_models(registry.models_of(config), registry)
    events = events_of(store, run_id, config)
    with _ending_cleanly():
        try:
            with holding(store, "process", run_id, wait_lease_s) as held, keeping_journal(events, held):
                outcome = _run(
                    config,
                    registry,
                    held,
                    run_id,
                    listing,
                    events,
                    retry_quarantined=retry_quarantined,
                    prune=prune,
                    close_sequences=close_sequences,
                    early=early,
                )
                if config.annotate:
                    outcome = _annotate(outcome, config, held, listing.so_far())
                event_log.drop_old_runs(held, event_log.days_ago(config.run.events_ttl_days), spared=run_id)
                return outcome
        except KeyboardInterrupt:
            console.say(f"interrupted; finished chunks are kept: the same command goes on from there ({store.uri})")
            raise


def _run(
    config: Config,
    registry: Registry,
    store: Store,
    run_id: str,
    listing: OpenListing,
    events: EventTarget,
    *,
    retry_quarantined: bool,
    prune: bool,
    close_sequences: bool,
    early: Child | None,
) -> Outcome:
    """Carry out the steps of a run. Return which sources are not done."""
    config = decide_device(config)
    index, work_names = _open_output(store)
    tables.create(store, config.biometrics.keep)
    target = WantedTables.of(config, registry)
    records.write_recipe(store, target.config_id, target.recipe.to_json())
    record = RunRecord(index, target, run_id, registry, last_success_at=last_success(store))
    record.tell_success()
    ledger = Ledger(store, target.recipe.keys)
    maps = Maps.of(config, registry, ledger, record.run_id, events, machine_of(config))
    planner = Planner(index, work_names)
    ids: dict[str, str | Failure] = {}
    with (
        Pages(listing, index) as pages,
        telling_progress(record.progress),
        Engines(config, maps, console.say, early) as engines,
    ):
        try:
            for portion in portions_aloud(pages, listing):
                record.knows_all = portion.is_last
                record.enter_sources(portion.sources)
                record.enter_ids(portion.ids)
                if portion.is_last:
                    record.enter_vanished(listing.so_far())
                ids |= portion.ids
                contents = catalog.contents(ids, touched=portion.ids)
                chosen = select_contents(record, contents, retry_quarantined)
                if portion.is_last:
                    say_vanished(record)
                _process(chosen, portion, planner, engines, record)
            if prune:
                say_pruned(index)
                prune_output(index)
            _link_sequences(engines, record)
            record.note_success()
            engines.join_cluster()
        except (KeyboardInterrupt, SystemExit):  # a reader of the standard output who has left raises SystemExit
            record.close("interrupted")
            raise
        except PassingError:
            with suppress(PassingError, MachineError):  # the place of the output may be the one that is asleep
                record.close("failed")
            raise
        except BaseException:
            record.close("failed")
            raise
    if close_sequences:
        sequences.close(index, {source.sequence for source in listing.so_far().sources if source.sequence})
    clear_work(index, target)
    record.close("done")
    say_results(record, catalog.contents(ids))
    num_deferred = len(record.deferred) + len(record.deferred_sequences)
    return Outcome(len(record.unreadable) + len(record.quarantined), num_deferred)


def _annotate(outcome: Outcome, config: Config, store: Store, listing: Listing) -> Outcome:
    """Make annotated copies of the listed sources that are done. Return `outcome` with those that could not be made."""
    from jobs.shared.copying import annotate_videos  # it imports what draws and encodes

    index = OutputIndex.load(store)
    listed = (index.sources.get(source.uri) for source in listing.sources)
    copied = annotate_videos(index, config, video_ids={row["video_id"] for row in listed if row is not None})
    num_deferred = outcome.num_deferred + copied.num_deferred
    return replace(outcome, num_deferred=num_deferred, num_not_copied=copied.num_failed)


def _open_output(store: Store) -> tuple[OutputIndex, list[str]]:
    """Return the index of an output and the files of its working area, after interrupted removals and replacements are
    finished."""
    forgetting.finish(store)
    work_names = store.names(WORK)
    if replacement.finish_replacing(store, work_names):
        work_names = store.names(WORK)
    return OutputIndex.load(store, refreshes=True), work_names


def _process(
    chosen: Sequence[Content], portion: Portion, planner: Planner, engines: Engines, record: RunRecord
) -> None:
    """Plan and carry out the work on the chosen contents of a portion."""
    plans = planner.plans(chosen, record.target)
    say_plans(plans.values())
    work = _prepare(chosen, plans, portion, engines, record)
    record.save_sources()
    sequences.withdraw(record.store, {content.video_id for content in chosen})
    if work:
        _carry_out(work, engines, record)
    if again := [content for content in chosen if content.video_id in record.not_relinked]:
        say_not_relinked(record)
        plans = Planner(record.index).plans_anew(again, record.target)
        _carry_out(_prepare(again, plans, portion, engines, record), engines, record)


def _prepare(
    chosen: Sequence[Content], plans: Mapping[str, VideoPlan], portion: Portion, engines: Engines, record: RunRecord
) -> list[Work | RelinkJob]:
    """Probe the containers that are not probed yet, and return the work on each content. The engine starts at the same
    time."""
    with ThreadPoolExecutor(1) as meanwhile:
        to_read = [content for content in chosen if plans[content.video_id].relink is None]
        unknown = [content for content in to_read if content.video_id not in portion.probes]
        probing = meanwhile.submit(probe_aloud, unknown)
        if to_read:
            check_tracking(record.config)
            with_pixels = any(plans[content.video_id].basis is Basis.VIDEO for content in to_read)
            num_left = math.inf if portion.num_left is None else portion.num_left
            engines.begin(len(to_read) + num_left, with_pixels=with_pixels)
        return list_work(record, chosen, plans, portion.probes | probing.result())


def _carry_out(work: Sequence[Work | RelinkJob], engines: Engines, record: RunRecord) -> None:
    """Do the work, and record every event of it."""
    mapped = [job for job in work if isinstance(job, Work) and (job.rows or job.faces)]
    num_frames = round(sum(job.duration_s * float(job.job.probe.fps) for job in mapped))
    num_pictures = sum(_is_picture(job) for job in work)
    say_work(work, num_pictures, record, loads_models=bool(mapped))
    record.expect(len(work), num_frames)
    noun = "videos" if not num_pictures else "pictures" if num_pictures == len(work) else "videos and pictures"
    with console.meter(len(work), num_frames, noun) as meter:
        for event in engines.run(work):
            record.note(event)
            if isinstance(event, ChunkDone):
                meter.add_frames(event.num_frames, event.num_detections)
            elif isinstance(event, VideoDone):
                row = event.published.row
                meter.add_video(console.last(row["uri"]), row["num_persons"])
            else:
                meter.add_video()


def _is_picture(job: Work | RelinkJob) -> bool:
    return console.is_picture(job.relink.row) if isinstance(job, RelinkJob) else job.job.probe.kind == "image"


def _link_sequences(engines: Engines, record: RunRecord) -> None:
    """Link the files of every sequence in which a file has changed."""
    sequences.drop_ended(record.index)
    jobs = sequences.find_work(record.index)
    if jobs:
        console.say(f"linking {console.count(len(jobs), 'sequence')}")
        for end in engines.link_sequences(jobs):
            record.note_sequence(end)
            if end.why:
                console.say(f"sequence {end.name} is not linked: {end.why}")


@contextlib.contextmanager
def _ending_cleanly():  # noqa: ANN202
    """Stop Ray at the end of the block, however it ends. SIGTERM counts as an interruption, like Ctrl-C."""
    # The handler does not raise SIGINT, because shells start background jobs with that signal ignored.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        stop_ray()
