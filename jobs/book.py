"""The record of a run: the state of every source and video, the work that this run has done on each, and its cost."""

import json
import platform
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from pipeline.config import Config
from pipeline.flow.events import ChunkDone, Event, VideoDone, Work
from pipeline.media.probe import Probe
from pipeline.planning import catalog, spans
from pipeline.planning.catalog import Content, Failure, VideoStatus
from pipeline.planning.planner import Target, VideoPlan
from pipeline.planning.recipe import models, priors
from pipeline.rows import VIDEO_TABLES
from pipeline.storage import records, tables
from pipeline.storage.ledger import WORK, Ledger, drop_older, drop_older_summaries, summarised, summary_name
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing
from pipeline.storage.store import Store
from pipeline.video import sequence as sequences
from pipeline.video.reduce import VideoJob
from pipeline.video.relink import RelinkJob
from pipeline.weights import Registry

SAVE_EVERY_S = 10
OBSERVE, RELINK = "observe", "relink"
NAMED_VERSIONS = ("ray", "torch", "ultralytics", "boxmot", "av", "numpy", "pyarrow", "opencv-contrib-python-headless")


@dataclass(slots=True)
class Account:
    """The cost of one video in this run.

    started_at: UTC time at which its work began.
    reused: number of chunks that were durable already, or of which only the faces were estimated again.
    done: number of chunks that were observed in this run.
    attempts: the most attempts that any of its chunks needed.
    seconds: s of work, added up over all workers.
    gpu_seconds: s of work on GPUs, added up over all workers.
    """

    started_at: datetime
    reused: int
    done: int = 0
    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(slots=True)
class Book:
    """Keeps `sources`, `videos`, `runs` and run.json up to date during a run.

    index: the sources and videos of the output.
    target: the configuration and recipe of this run.
    run_id: UTC time of the start, and a random suffix.
    registry: the models.
    started_at: UTC time.
    faults: failures by uri, of sources without a content id.
    failed: failures by video_id, of videos that were quarantined in this run.
    published: rows of `videos` by video_id, of videos that were published in this run.
    accounts: costs by video_id.
    stage_seconds: [s of work, s on GPUs] by stage.
    records: rows of `runs`, one per finished video.
    not_relinked: reasons by video_id. Says why the published data of a video was not enough to relink it.
    linked: names of the sequences that were linked in this run.
    not_linked: reasons by name of the sequence. Says why a sequence could not be linked.
    vanished: uris of sources that the previous run still found.
    renamed: uris of those vanished sources whose content another source has, and the uri of that source.
    """

    index: OutputIndex
    target: Target
    run_id: str
    registry: Registry
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    faults: dict[str, Failure] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    stage_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    records: list[dict[str, Any]] = field(default_factory=list)
    not_relinked: dict[str, str] = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    not_linked: dict[str, str] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def store(self) -> Store:
        return self.index.store

    @property
    def config(self) -> Config:
        return self.target.config

    @property
    def config_id(self) -> str:
        return self.target.config_id

    def open(self, listing: Listing, ids: dict[str, str | Failure]) -> None:
        """Enter the sources as this run finds them."""
        self.vanished = sorted(row["uri"] for row in self.index.vanished(listing) if row["current"])
        self.index.name_sources(listing)
        for uri, found in ids.items():
            row = self.index.sources[uri]
            if row["video_id"] != found and row["csv"]:
                self.store.delete(row["csv"])  # it describes another content
            if isinstance(found, Failure):
                self.faults[uri] = found
                told = {"status": "quarantined", "stage": found.stage, "reason": found.reason}
                self.index.set_source(uri, video_id=None, **told)
            else:
                self.index.set_source(uri, video_id=found, status="pending", stage=None, reason=None)
        self._drop_old_names()
        self.index.follow_videos()

    def _drop_old_names(self) -> None:
        """Remove the CSV of every source that is gone and whose content has a CSV under the name of another source."""
        known_now = self.index.renamed()
        self.renamed = {uri: known_now[uri] for uri in self.vanished if uri in known_now}
        for uri in known_now:
            if csv := self.index.sources[uri]["csv"]:
                self.store.delete(csv)
                self.index.set_source(uri, csv=None)

    def select(self, found: Sequence[Content], retry_quarantined: bool) -> list[Content]:
        """Return the contents that this run works on. For those that are done, write only the missing CSVs of their
        sources."""
        wanted = []
        for content in found:
            standing = catalog.video_status(content, self.index, self.config_id)
            if standing is VideoStatus.DONE:
                for name in self.index.csv_names(content.video_id):
                    if not self.store.exists(name):
                        tables.write_csv(self.store, content.video_id, name)
            elif standing is not VideoStatus.QUARANTINED or retry_quarantined:
                wanted.append(content)
        return wanted

    def work(
        self, chosen: Sequence[Content], plans: Mapping[str, VideoPlan], probes: Mapping[str, Probe | Failure]
    ) -> list[Work | RelinkJob]:
        """Return the remaining work of each video, longest first. A long video that began last would keep the
        cluster waiting."""
        pieces = {row["video_id"] for members in self.index.sequences().values() for row in members}
        work: list[Work | RelinkJob] = []
        for content in chosen:
            plan = plans[content.video_id]
            if plan.relink is not None:
                again = RelinkJob(plan.relink, plan.basis)
                self._open_account(content, again.num_chunks)
                work.append(again)
            elif isinstance(probed := probes[content.video_id], Failure):
                self._quarantine(content.video_id, content.uri, probed)
            else:
                self._open_account(content, len(plan.spans))
                work.append(self._from_chunks(content, plan, probed, content.video_id in pieces))
        return sorted(work, key=lambda one: (-one.duration_s, one.uri))

    def _from_chunks(self, content: Content, plan: VideoPlan, probed: Probe, in_sequence: bool) -> Work:
        """Return the work of a video that is reduced from chunks, with a row for each chunk that is not durable yet."""
        video_id, recipe = content.video_id, self.target.recipe
        job = VideoJob(
            video_id=video_id,
            uri=content.uri,
            probe=probed,
            spans=plan.spans,
            csv_names=tuple(self.index.csv_names(video_id)),
            ledger=Ledger(self.store, plan.keys),
            config=self.config,
            config_id=self.config_id,
            spaces=recipe.spaces,
            priors=priors(recipe.likenesses),
            in_sequence=in_sequence,
        )
        kept = [*plan.spans, *(span for span, _ in plan.faces)]
        left = spans.spans_to_decode(probed, self.config, kept)
        return Work(
            job,
            rows=tuple(spans.span_row(video_id, content.uri, probed, span) for span in left),
            faces=tuple(spans.faces_row(video_id, content.uri, span, key) for span, key in plan.faces),
        )

    def _open_account(self, content: Content, num_reused: int) -> None:
        self.accounts[content.video_id] = Account(datetime.now(UTC), reused=num_reused)

    def note(self, event: Event) -> None:
        if isinstance(event, ChunkDone):
            account = self.accounts[event.video_id]
            if OBSERVE in event.timings:
                account.done += 1
            else:  # only its faces were estimated again
                account.reused += 1
            account.attempts = max(account.attempts, event.attempts)
            for stage, (seconds, gpu_seconds) in event.timings.items():
                self._spend(account, stage, seconds, gpu_seconds)
        elif isinstance(event, VideoDone):
            video_id = event.published.video_id
            self._spend(self.accounts[video_id], event.stage, event.seconds, 0.0)
            self.published[video_id] = self.index.videos[video_id] = event.published.row
            self._record(video_id)
        elif event.stage == RELINK:
            self.not_relinked[event.video_id] = event.reason
        else:
            row = next(row for row in self.index.sources.values() if row["video_id"] == event.video_id)
            self._quarantine(event.video_id, row["uri"], Failure(event.stage, event.reason))
            self._record(event.video_id)
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save_sources()

    def save_sources(self) -> None:
        self.index.follow_videos()
        self.index.save_sources()
        if self.records:
            records.write_run(self.store, self.run_id, self.records)
        self._saved = time.monotonic()

    def prune(self) -> None:
        """Remove the sources that are not current, and the videos that no current source names."""
        unnamed = self.index.unnamed()
        for uri in [uri for uri, row in self.index.sources.items() if not row["current"]]:
            if csv := self.index.sources.pop(uri)["csv"]:
                self.store.delete(csv)
        for video_id in unnamed:
            for dataset in ("videos", *VIDEO_TABLES, "embeddings"):
                self.store.delete(f"{dataset}/{video_id}.parquet")
            self.store.delete_tree(f"_work/{video_id}")
            self.store.delete(summary_name(video_id))
            del self.index.videos[video_id]
        self.index.close_ranks()

    def close(self, status: str, registry: Registry) -> None:
        """Write everything that is not written yet, run.json last."""
        self.save_sources()
        counts = defaultdict(int)
        for row in self.index.videos.values():
            counts[row["status"]] += 1
        seconds = {
            stage: {"seconds": round(s, 3), "gpu_seconds": round(g, 3)}
            for stage, (s, g) in sorted(self.stage_seconds.items())
        }
        told = {
            "run_id": self.run_id,
            "status": status,
            "started_at": self.started_at.isoformat(),
            "seconds": round((datetime.now(UTC) - self.started_at).total_seconds(), 3),
            "versions": versions(),
            "config_id": self.config_id,
            "configuration": self.config.plain(),
            "models": models(self.config, registry),
            "videos": {"done": counts["done"], "quarantined": counts["quarantined"]},
            "this_run": {"published": len(self.published), "quarantined": len(self.failed) + len(self.faults)},
            "chunks": {
                "done": sum(account.done for account in self.accounts.values()),
                "reused": sum(account.reused for account in self.accounts.values()),
            },
            "stages": seconds,
        }
        if self.linked:
            told["sequences"] = [asdict(one) for one in self.sequence_statuses()]
        if self.not_linked:
            told["sequences_not_linked"] = self.not_linked
        self.store.put("run.json", json.dumps(told, indent=2).encode())

    def sequence_statuses(self) -> list[sequences.SequenceStatus]:
        """Return the sequences that were linked in this run."""
        return [one for one in sequences.sequence_statuses(self.index) if one.sequence in self.linked]

    def _quarantine(self, video_id: str, uri: str, fault: Failure) -> None:
        self.failed[video_id] = fault
        records.hide_video(self.store, video_id)  # it may be done under another configuration
        self.store.delete(summary_name(video_id))
        for dataset in (*VIDEO_TABLES, "embeddings"):
            self.store.delete(f"{dataset}/{video_id}.parquet")
        for name in self.index.csv_names(video_id):
            self.store.delete(name)
        row = records.quarantined_row(video_id, uri, self.config_id, fault.stage, fault.reason)
        self.index.videos[video_id] = row
        records.write_video(self.store, row)

    def _spend(self, account: Account, stage: str, seconds: float, gpu_seconds: float) -> None:
        account.seconds += seconds
        account.gpu_seconds += gpu_seconds
        self.stage_seconds[stage][0] += seconds
        self.stage_seconds[stage][1] += gpu_seconds

    def _record(self, video_id: str) -> None:
        account, prices = self.accounts[video_id], self.config.run
        cost = None
        if prices.cpu_hour_price is not None or prices.gpu_hour_price is not None:
            cost = account.seconds * (prices.cpu_hour_price or 0) + account.gpu_seconds * (prices.gpu_hour_price or 0)
            cost = round(cost / 3600, 6)
        self.records.append(
            {
                "run_id": self.run_id,
                "video_id": video_id,
                "started_at": account.started_at,
                "seconds": round(account.seconds, 3),
                "gpu_seconds": round(account.gpu_seconds, 3),
                "cost": cost,
                "attempts": max(account.attempts, 1),
                "num_chunks": account.done + account.reused,
                "chunks_reused": account.reused,
            }
        )


def versions() -> dict[str, str]:
    """Return the versions of the software that a run depends on, for run.json."""
    named = {name: version(name) for name in NAMED_VERSIONS}
    return {"rollcall": version("rollcall"), "python": platform.python_version()} | named


def clear_work(book: Book) -> None:
    """Remove the working files that nothing needs any more.

    These are the files of videos that this configuration has finished or quarantined. They are also the files that
    other configurations left behind in interrupted runs, and the summaries that sequences wait for, once their time
    to live (`run.work_ttl_days`) has passed. The files that a published video keeps are not removed.

    A video leaves working files behind if a run was killed after writing the last table. It also does if it was
        quarantined: other chunks of it were on their way then, and their workers went on writing.
    """
    done = book.index.done()
    through = {video_id for video_id, row in book.index.videos.items() if row["config_id"] == book.config_id}
    if book.config.biometrics.keep:
        through -= set(done)
    pieces = {row["video_id"] for members in book.index.sequences().values() for row in members}
    for video_id in sorted((through & summarised(book.store)) - pieces):
        book.store.delete(summary_name(video_id))  # its biometrics were kept by an earlier run
    for video_id in sorted(through & {name.split("/")[1] for name in book.store.names(WORK)}):
        book.store.delete_tree(f"{WORK}/{video_id}")
    limit = datetime.now(UTC) - timedelta(days=book.config.run.work_ttl_days)
    drop_older(book.store, limit, spared=done)
    drop_older_summaries(book.store, limit, spared=sequences.keeping(book.index))
