"""The record of a run: the state of every source and video, the work that this run has done on each, and its cost."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.shared.run_costs import StageSeconds, VideoCost, rounded
from jobs.shared.run_json import run_facts
from jobs.shared.withdrawal import has_older_tables, withdraw_tables
from pipeline.config import Config
from pipeline.errors import PassingError
from pipeline.flow import journal, metrics
from pipeline.flow.events import ChunkDone, Event, VideoDeferred, VideoDone
from pipeline.flow.sequence_ends import STAGE, SequenceEnd
from pipeline.planning.catalog import Failure
from pipeline.planning.planner import WantedTables
from pipeline.planning.recipe import models
from pipeline.storage import records, video_rows
from pipeline.storage.names import Names
from pipeline.storage.output_index import FailedTables, OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.video import sequences
from pipeline.weights import Registry

SAVE_EVERY_S = 10
RELINK = "relink"


@dataclass(slots=True)
class RunRecord:
    """Keeps `sources`, `videos`, `runs` and run.json up to date during a run.

    index: the sources and videos of the output.
    target: the configuration and recipe of this run.
    run_id: UTC time of the start, and a random suffix.
    registry: the models.
    started_at: UTC time.
    unreadable: failures by uri, of sources without a content id.
    quarantined: failures by video_id, of videos that were quarantined in this run.
    kept: those of them that keep the tables of an earlier configuration.
    deferred: failures by uri, of sources that could not be reached in this run and keep their state.
    published: rows of `videos` by video_id, of videos that were published in this run.
    costs: by video_id, the cost of each video that this run works on.
    stage_seconds: the work of all videos by stage.
    run_rows: rows of `runs`, one per finished video.
    not_relinked: reasons by video_id. Says why the published data of a video was not enough to relink it.
    linked: names of the sequences that were linked in this run.
    not_linked: reasons by name of the sequence. Says why a sequence could not be linked.
    deferred_sequences: those of them that are left to the next run.
    vanished: uris of sources that the previous run still found.
    renamed: uris of those vanished sources whose content another source has, and the uri of that source.
    last_success_at: UTC time at which the last complete run ended, or None.
    num_videos: number of videos that this run works on, as far as it knows them.
    num_frames: number of frames that it decodes, as the containers state them.
    frames_done: number of frames of the chunks that it has made.
    knows_all: whether all sources are read, so that these numbers do not grow any more.
    """

    index: OutputIndex
    target: WantedTables
    run_id: str
    registry: Registry
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    unreadable: dict[str, Failure] = field(default_factory=dict)
    quarantined: dict[str, Failure] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    deferred: dict[str, Failure] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    costs: dict[str, VideoCost] = field(default_factory=dict)
    stage_seconds: StageSeconds = field(default_factory=StageSeconds)
    run_rows: list[dict[str, Any]] = field(default_factory=list)
    not_relinked: dict[str, str] = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    not_linked: dict[str, str] = field(default_factory=dict)
    deferred_sequences: set[str] = field(default_factory=set)
    vanished: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    last_success_at: str | None = None
    num_videos: int = 0
    num_frames: int = 0
    frames_done: int = 0
    knows_all: bool = True
    _names: Names | None = None
    _etags: dict[str, str | None] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def store(self) -> Store:
        """The place of the output."""
        return self.index.store

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.target.config

    @property
    def config_id(self) -> str:
        """The id of the configuration and weights."""
        return self.target.config_id

    def enter_sources(self, sources: Sequence[Source]) -> None:
        """Enter the names of sources that this run finds, in their order."""
        if self._names is None:
            self._names = self.index.names_in_use()
        unread = [source.uri for source in sources if self.index.known_id(source) is None]
        self.index.add_sources(sources, self._names)
        # Until a source is identified it has no etag, so that no later run believes the content id of an older file.
        for uri in unread:
            self._etags[uri] = self.index.sources[uri]["etag"]
            self.index.set_source(uri, etag=None)

    def enter_ids(self, ids: Mapping[str, str | Failure]) -> None:
        """Enter the contents of sources.

        ids: by uri, the content id of each source, or the reason why it has none.
        """
        for uri, video_id in ids.items():
            if uri in self._etags:
                self.index.set_source(uri, etag=self._etags.pop(uri))
            row = self.index.sources[uri]
            if isinstance(video_id, Failure) and video_id.may_pass:
                self.deferred[uri] = video_id
                _note_failure("source_deferred", "warning", None, video_id, uri, "PassingError")
                # Without an etag, the next run reads the file again instead of believing an older content id.
                self.index.set_source(uri, status=row["status"] or "pending", etag=None)
                continue
            if row["video_id"] != video_id and row["csv"]:
                self.store.delete(row["csv"])  # it describes another content
            if isinstance(video_id, Failure):
                failure = self.unreadable[uri] = video_id
                _note_failure("source_quarantined", "error", None, failure, uri)
                state = {"status": "quarantined", "stage": failure.stage, "reason": failure.reason}
                self.index.set_source(uri, video_id=None, failed_config_id=None, **state)
            else:
                state = dict.fromkeys(("stage", "reason", "failed_config_id")) | {"status": "pending"}
                self.index.set_source(uri, video_id=video_id, **state)
        metrics.set_value("rollcall_deferred", len(self.deferred))
        self.index.follow_videos()

    def enter_vanished(self, listing: Listing) -> None:
        """Enter which sources are gone, when all sources of a complete listing are entered. Remove the CSV of each one
        whose content has a CSV under the name of another source."""
        self.vanished = sorted(row["uri"] for row in self.index.vanished(listing) if row["current"])
        self.index.leave_vanished(listing)
        for uri in self.vanished:
            self.deferred.pop(uri, None)  # an earlier portion took it for a source of a video that it deferred
        current_uris = self.index.renamed()
        self.renamed = {uri: current_uris[uri] for uri in self.vanished if uri in current_uris}
        for uri in current_uris:
            if csv := self.index.sources[uri]["csv"]:
                self.store.delete(csv)
                self.index.set_source(uri, csv=None)

    def begin_video(self, video_id: str, num_reused: int) -> None:
        """Start the account of a video's cost. `num_reused` of its chunks are durable already."""
        self.costs[video_id] = VideoCost(datetime.now(UTC), reused=num_reused)

    def expect(self, num_videos: int, num_frames: int) -> None:
        """Add to the work that this run expects."""
        self.num_videos += num_videos
        self.num_frames += num_frames

    def progress(self) -> dict[str, int]:
        """Return how far the run is."""
        return {
            "videos": self.num_videos,
            "videos_done": len(self.published),
            "videos_quarantined": len(self.quarantined) + len(self.unreadable),
            "sources_deferred": len(self.deferred),
            "chunks_done": sum(cost.done for cost in list(self.costs.values())),
            "frames": self.num_frames,
            "frames_done": self.frames_done,
            "knows_all": self.knows_all,
        }

    def note(self, event: Event) -> None:
        """Record an event of the run. Every few seconds, what changed is written to the output."""
        if isinstance(event, ChunkDone):
            self._note_chunk(event)
        elif isinstance(event, VideoDone):
            video_id = event.published.video_id
            self._spend(self.costs[video_id], event.stage, event.seconds, 0.0)
            self.published[video_id] = self.index.videos[video_id] = event.published.row
            self.index.failed.pop(video_id, None)
            self._add_run_row(video_id)
            self._note_published(video_id, event)
        elif isinstance(event, VideoDeferred):
            self.defer(event.video_id, Failure(event.stage, event.reason, may_pass=True))
        elif event.stage == RELINK:
            self.not_relinked[event.video_id] = event.reason
            failure = Failure(event.stage, event.reason)
            _note_failure("video_not_relinked", "warning", event.video_id, failure, "", event.kind)
        else:
            uri = self.index.sources_of(event.video_id)[0]["uri"]
            failure = Failure(event.stage, event.reason)
            self.quarantine(event.video_id, uri, failure, kind=event.kind, bug=event.bug)
            self._add_run_row(event.video_id)
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            with suppress(PassingError):  # the next event saves again
                self.save_sources()

    def _note_chunk(self, event: ChunkDone) -> None:
        cost = self.costs[event.video_id]
        cost.count(event)
        self.frames_done += event.num_frames or 0
        stages = rounded(event.timings)
        fields = {"video": event.video_id, "chunk": event.span[0], "attempt": event.attempts}
        journal.note("chunk_done", **fields, frames=event.num_frames, stages=stages)
        metrics.count("rollcall_chunks_total", outcome="done")
        metrics.count("rollcall_frames_total", event.num_frames or 0)
        for stage, (seconds, gpu_seconds) in event.timings.items():
            self._spend(cost, stage, seconds, gpu_seconds)

    def save_sources(self) -> None:
        """Write `sources` and the rows of `runs` so far."""
        self.index.follow_videos()
        for uri, failure in self.deferred.items():
            self.index.set_source(uri, stage=failure.stage, reason=f"deferred: {failure.reason}")
        self.index.save_sources()
        if self.run_rows:
            records.write_run(self.store, self.run_id, self.run_rows)
        self._saved = time.monotonic()

    def close(self, status: str) -> None:
        """Write everything that is not written yet, run.json last. `status` is done, interrupted or failed."""
        self.save_sources()
        model_facts = models(self.config, self.registry)
        facts = {
            "run_id": self.run_id,
            **run_facts(self.index, self.config, self.config_id, model_facts, self.started_at, status),
            "last_success_at": self.last_success_at,
            "this_run": {
                "published": len(self.published),
                "quarantined": len(self.quarantined) + len(self.unreadable),
                "kept": len(self.kept),
                "deferred": len(self.deferred),
            },
            "chunks": {
                "done": sum(cost.done for cost in self.costs.values()),
                "reused": sum(cost.reused for cost in self.costs.values()),
            },
            "stages": self.stage_seconds.costs(self.config.run),
        }
        if self.linked:
            facts["sequences"] = [asdict(sequence) for sequence in self.sequence_statuses()]
        if self.not_linked:
            facts["sequences_not_linked"] = self.not_linked
        self.store.put("run.json", json.dumps(facts, indent=2).encode())
        if status == "done" and len(self.published) + len(self.quarantined) > video_rows.FRESH_ENOUGH:
            video_rows.refresh(self.store)

    def note_success(self) -> None:
        """Note that the run is complete, unless it leaves something to the next one."""
        if not self.deferred and not self.deferred_sequences:
            self.last_success_at = datetime.now(UTC).isoformat()
            self.tell_success()

    def tell_success(self) -> None:
        """State the end of the last complete run among the metrics."""
        if self.last_success_at is not None:
            ended = datetime.fromisoformat(self.last_success_at)
            metrics.set_value("rollcall_last_success_timestamp_s", ended.timestamp())

    def note_sequence(self, end: SequenceEnd) -> None:
        """Record how the work on a sequence ended."""
        self.linked.append(end.name)
        if end.why:
            self.not_linked[end.name] = end.why
            outcome = "deferred" if end.may_pass else "not_linked"
            level = "warning" if end.may_pass else "error"
            journal.note(f"sequence_{outcome}", level, stage=STAGE, kind=end.kind, message=end.why)
        if end.may_pass:
            self.deferred_sequences.add(end.name)

    def sequence_statuses(self) -> list[sequences.SequenceStatus]:
        """Return the sequences that were linked in this run."""
        return [status for status in sequences.sequence_statuses(self.index) if status.sequence in self.linked]

    def defer(self, video_id: str, failure: Failure) -> None:
        """Leave a video to the next run. It keeps the tables and the state that it has."""
        _note_failure("video_deferred", "warning", video_id, failure, "", "PassingError")
        self.index.failed.pop(video_id, None)
        uris = [row["uri"] for row in self.index.sources_of(video_id) if row["current"]]
        self.deferred |= dict.fromkeys(uris, failure)
        metrics.set_value("rollcall_deferred", len(self.deferred))

    def quarantine(
        self, video_id: str, uri: str, failure: Failure, *, kind: str = "DataError", bug: str | None = None
    ) -> None:
        """Give a video up, and state the reason in its row of `videos`. If it is done under another configuration, its
        tables and its row stay, and `sources` states the reason.

        kind: of the failure, for the events. bug: the traceback, for the events.
        """
        _note_failure("video_quarantined", "error", video_id, failure, uri, kind, traceback=bug)
        self.quarantined[video_id] = failure
        if has_older_tables(self.index, video_id):
            self.kept.add(video_id)
            self.index.failed[video_id] = FailedTables(self.config_id, failure.stage, failure.reason)
            return
        withdraw_tables(self.index, video_id)
        row = records.quarantined_row(video_id, uri, self.config_id, failure.stage, failure.reason)
        self.index.videos[video_id] = row
        records.write_video(self.store, row)

    def _note_published(self, video_id: str, event: VideoDone) -> None:
        cost, row = self.costs[video_id], self.run_rows[-1]
        metrics.count("rollcall_videos_total", outcome="done")
        journal.note(
            "video_published",
            video=video_id,
            stage=event.stage,
            seconds=row["seconds"],
            gpu_seconds=row["gpu_seconds"],
            cost=row["cost"],
            stages=rounded(cost.stages),
            chunks=event.published.num_chunks,
            persons=event.published.row["num_persons"],
        )

    def _spend(self, cost: VideoCost, stage: str, seconds: float, gpu_seconds: float) -> None:
        cost.spend(stage, seconds, gpu_seconds)
        self.stage_seconds.spend(stage, seconds, gpu_seconds)
        metrics.observe("rollcall_stage_seconds", seconds, stage=stage)
        metrics.count("rollcall_gpu_seconds_total", gpu_seconds, stage=stage)

    def _add_run_row(self, video_id: str) -> None:
        self.run_rows.append(self.costs[video_id].run_row(self.run_id, video_id, self.config.run))


def _note_failure(
    event: str,
    level: str,
    video_id: str | None,
    failure: Failure,
    uri: str,
    kind: str = "DataError",
    **fields: Any,
) -> None:
    """Write down that a video or source is given up or left to the next run."""
    outcome = event.rpartition("_")[2]
    if outcome in ("quarantined", "deferred"):
        metrics.count("rollcall_videos_total", outcome=outcome)
    named = {"video": video_id, "stage": failure.stage, "kind": kind, "message": failure.reason, "hidden": uri}
    journal.note(event, level, **named, **fields)
