"""`rollcall process`: from sources to tables, the main job."""

import contextlib
import json
import platform
import secrets
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Annotated, Any

import ray
import typer
from rich.table import Table

from jobs import console
from jobs.errors import run as run_app
from jobs.options import STARTER, ConfigFiles, Output, Profile, SequenceBy, Settings, Sources
from pipeline.config import Config, load
from pipeline.cores.plan import disjoint
from pipeline.media.probe import Probe
from pipeline.rows import VIDEO_TABLES
from pipeline.stages import catalog, flow, run
from pipeline.stages import sequence as sequences
from pipeline.stages.catalog import Content, Fault, Standing
from pipeline.stages.reduce import Job
from pipeline.storage import state as books
from pipeline.storage import tables
from pipeline.storage.blobs import fetch
from pipeline.storage.ledger import WORK, Ledger, drop_older, drop_older_summaries, summary_name
from pipeline.storage.sources import Listing, list_sources
from pipeline.storage.state import State
from pipeline.storage.store import Store
from pipeline.weights import Registry

QUARANTINED = 3
SAVE_EVERY_S = 10
SHOWN_VIDEOS = 25
NAMED_VERSIONS = ("ray", "torch", "ultralytics", "boxmot", "av", "numpy", "pyarrow", "opencv-contrib-python-headless")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def process(
    sources: Sources,
    output: Output,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it Ray starts here.")] = None,
    allow_quarantined: Annotated[bool, typer.Option(help="End with status 0 though videos were quarantined.")] = False,
    retry_quarantined: Annotated[bool, typer.Option(help="Try again what earlier runs gave up.")] = False,
    prune: Annotated[bool, typer.Option(help="Remove the rows of videos that no current source names.")] = False,
    sequence: SequenceBy = None,
    close_sequences: Annotated[
        bool, typer.Option(help="No file will follow in the sequences named: forget what links to it would need.")
    ] = False,
) -> None:
    """Find who appears in SOURCES, when and where, who is whom, how old and of which gender; write tables to OUTPUT."""
    console.say(f"rollcall {version('rollcall')}: looking at the sources")
    chosen = load(config or [], [*(settings or []), *([f"run.address={address}"] if address else [])], profile)
    store = Store(output)
    listing = list_sources(sources, store.uri, sequence)
    registry = verified_models(chosen)
    num_quarantined = work_through(
        listing,
        chosen,
        registry,
        store,
        retry_quarantined=retry_quarantined,
        prune=prune,
        close_sequences=close_sequences,
    )
    if num_quarantined and not allow_quarantined:
        sys.exit(QUARANTINED)


def verified_models(config: Config) -> Registry:
    """The registry, once every model of the configuration is on this machine, is what it should be, and may be used."""
    registry = Registry.of(config, fetch)
    models = registry.models_of(config)
    registry.refuse_licences(models.values(), config.licences.allow)
    registry.pull(models.values())
    return registry


def work_through(
    listing: Listing,
    config: Config,
    registry: Registry,
    store: Store,
    *,
    retry_quarantined: bool = False,
    prune: bool = False,
    close_sequences: bool = False,
) -> int:
    """All that `process` does once its sources are known; returns how many of them were quarantined in this run."""
    store.check_writable()
    _say_sources(listing)
    _say_models(registry.models_of(config), registry)
    with _ending_cleanly():
        try:
            return _run(
                config,
                registry,
                store,
                listing,
                retry_quarantined=retry_quarantined,
                prune=prune,
                close_sequences=close_sequences,
            )
        except KeyboardInterrupt:
            console.say(f"interrupted; finished chunks are kept: the same command goes on from there ({store.uri})")
            raise


def _run(
    config: Config,
    registry: Registry,
    store: Store,
    listing: Listing,
    *,
    retry_quarantined: bool,
    prune: bool,
    close_sequences: bool,
) -> int:
    """The steps of a run; returns how many sources were quarantined in it."""
    books.finish_replacing(store)
    state = State.load(store)
    tables.create(store, config.biometrics.keep)
    ids = catalog.identify(listing.sources, state)
    config = decide_device(config)
    config_id = flow.config_id(config, registry)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    books.write_recipe(store, config_id, flow.Recipe.of(config, registry).to_json())
    book = Book(state, config, config_id, run_id, registry)
    found = catalog.contents(ids)
    book.open(listing, ids)
    wanted = book.select(found, retry_quarantined)

    ledger = Ledger(store, flow.keys(config, registry))
    pools = flow.pools(config, registry, ledger, book.run_id)
    with ThreadPoolExecutor(1) as meanwhile:
        probing = meanwhile.submit(catalog.probe_all, wanted)
        if wanted:
            check_tracking(config)
            console.say("starting Ray")
            run.start_ray(config)
            run.check_room(config, pools)
        work = book.work(wanted, probing.result(), ledger)
    book.save_sources()
    sequences.withdraw(store, {content.video_id for content in wanted})
    try:
        if work:
            _carry_out(work, pools, config, book)
        if prune:
            book.prune()
        _link_sequences(book)
    except KeyboardInterrupt:
        book.close("interrupted", registry)
        raise
    except BaseException:
        book.close("failed", registry)
        raise
    if close_sequences:
        sequences.close(state, {source.sequence for source in listing.sources if source.sequence})
    _clear_work(book)
    book.close("done", registry)
    _say_results(book, found)
    return len(book.faults) + len(book.failed)


def _carry_out(work: Sequence[run.Work], pools: Sequence[Any], config: Config, book: "Book") -> None:
    seconds = sum(one.job.probe.duration_s for one in work)
    num_frames = round(sum(one.job.probe.duration_s * float(one.job.probe.fps) for one in work))
    reused = sum(len(one.job.spans) for one in work)
    told = f"{len(work)} video{'s' * (len(work) != 1)}, {console.duration(seconds)}"
    there = f", {reused} chunks are there already" if reused else ""
    console.say(f"processing {told} on {config.compute.device}{there}; loading models")
    with console.meter(len(work), num_frames) as meter:
        for event in run.run(work, pools, config):
            book.note(event)
            if isinstance(event, run.ChunkDone):
                meter.add_frames(event.num_frames)
            else:
                meter.add_video()


def _link_sequences(book: "Book") -> None:
    """Link the files of every sequence of which one has changed."""
    sequences.drop_ended(book.state)
    jobs = sequences.find_work(book.state)
    if jobs:
        book.linked = [job.name for job in jobs]
        console.say(f"linking {len(jobs)} sequence{'s' * (len(jobs) != 1)}")
        run.link_sequences(jobs, book.config)


def check_tracking(config: Config) -> None:
    """Before any work: what the tracker would refuse when all of it is done."""
    from pipeline.stages.track import check_tracking  # torch and boxmot: some seconds

    check_tracking(config)


def decide_device(config: Config) -> Config:
    """The configuration with `compute.device` cpu or cuda: a cluster is asked, this machine looked at."""
    if config.compute.device != "auto":
        return config
    if address := run.cluster_address(config):
        console.say(f"connecting to {address}")
        run.start_ray(config)
        return config.on_device("cuda" if run.count_gpus() else "cpu")
    from pipeline.models.loading import has_gpu  # torch: a few seconds

    return config.on_device("cuda" if has_gpu() else "cpu")


@dataclass(slots=True)
class Account:
    """What one video has cost in this run."""

    started_at: datetime
    reused: int
    done: int = 0
    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(slots=True)
class Book:
    """Keeps `sources`, `videos`, `runs` and run.json in step with what happens.

    faults: by uri, sources without a content. failed: by video_id, given up in this run. linked: sequences, likewise.
    """

    state: State
    config: Config
    config_id: str
    run_id: str
    registry: Registry
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    faults: dict[str, Fault] = field(default_factory=dict)
    failed: dict[str, Fault] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    stage_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    records: list[dict[str, Any]] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def store(self) -> Store:
        return self.state.store

    def open(self, listing: Listing, ids: dict[str, str | Fault]) -> None:
        """Enter the sources as this run finds them."""
        self.state.name_sources(listing)
        for uri, found in ids.items():
            row = self.state.sources[uri]
            if row["video_id"] != found:
                self.store.delete(row["csv"])  # it is of another content
            if isinstance(found, Fault):
                self.faults[uri] = found
                told = {"status": "quarantined", "stage": found.stage, "reason": found.reason}
                self.state.set_source(uri, video_id=None, **told)
            else:
                self.state.set_source(uri, video_id=found, status="pending", stage=None, reason=None)
        self.state.follow_videos()

    def select(self, found: Sequence[Content], retry_quarantined: bool) -> list[Content]:
        """The contents that this run works on; of those that are done, only the CSV of a source may be missing."""
        wanted = []
        for content in found:
            standing = catalog.standing(content, self.state, self.config_id)
            if standing is Standing.DONE:
                for name in self.state.csv_names(content.video_id):
                    if not self.store.exists(name):
                        tables.write_csv(self.store, content.video_id, name)
            elif standing is not Standing.QUARANTINED or retry_quarantined:
                wanted.append(content)
        return wanted

    def work(self, wanted: Sequence[Content], probes: dict[str, Probe | Fault], ledger: Ledger) -> list[run.Work]:
        """What is left of each video, longest first: a long one that begins last would keep the cluster waiting."""
        durable = ledger.durable()
        pieces = {row["video_id"] for members in self.state.sequences().values() for row in members}
        work = []
        for content in wanted:
            probed = probes[content.video_id]
            if isinstance(probed, Fault):
                self._quarantine(content.video_id, content.uri, probed)
                continue
            spans = durable.get(content.video_id, [])
            left = flow.planned(probed, self.config, spans)
            job = Job(
                video_id=content.video_id,
                uri=content.uri,
                probe=probed,
                spans=tuple(disjoint(spans)),
                csv_names=tuple(self.state.csv_names(content.video_id)),
                ledger=ledger,
                config=self.config,
                config_id=self.config_id,
                spaces=flow.spaces(self.config, self.registry),
                priors=flow.priors(flow.told_likenesses(self.config, self.registry)),
                in_sequence=content.video_id in pieces,
            )
            self.accounts[content.video_id] = Account(datetime.now(UTC), reused=len(job.spans))
            rows = tuple(flow.span_row(content.video_id, content.uri, probed, span) for span in left)
            work.append(run.Work(job=job, rows=rows))
        return sorted(work, key=lambda one: (-one.job.probe.duration_s, one.job.uri))

    def note(self, event: run.Event) -> None:
        if isinstance(event, run.ChunkDone):
            account = self.accounts[event.video_id]
            account.done += 1
            account.attempts = max(account.attempts, event.attempts)
            for stage, (seconds, gpu_seconds) in event.timings.items():
                self._spend(account, stage, seconds, gpu_seconds)
        elif isinstance(event, run.VideoDone):
            video_id = event.published.video_id
            self._spend(self.accounts[video_id], "reduce", event.seconds, 0.0)
            self.published[video_id] = self.state.videos[video_id] = event.published.row
            self._record(video_id)
        else:
            row = next(row for row in self.state.sources.values() if row["video_id"] == event.video_id)
            self._quarantine(event.video_id, row["uri"], Fault(event.stage, event.reason))
            self._record(event.video_id)
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save_sources()

    def save_sources(self) -> None:
        self.state.follow_videos()
        self.state.save_sources()
        if self.records:
            books.write_run(self.store, self.run_id, self.records)
        self._saved = time.monotonic()

    def prune(self) -> None:
        """Remove the sources that are not current, and the videos that no current one names."""
        gone = {uri for uri, row in self.state.sources.items() if not row["current"]}
        for uri in sorted(gone):
            self.store.delete(self.state.sources.pop(uri)["csv"])
        named = {row["video_id"] for row in self.state.sources.values()}
        for video_id in sorted(set(self.state.videos) - named):
            for dataset in ("videos", *VIDEO_TABLES, "embeddings"):
                self.store.delete(f"{dataset}/{video_id}.parquet")
            self.store.delete_tree(f"_work/{video_id}")
            self.store.delete(summary_name(video_id))
            del self.state.videos[video_id]
        self.state.close_ranks()

    def close(self, status: str, registry: Registry) -> None:
        """Write what is left to write, run.json last."""
        self.save_sources()
        counts = defaultdict(int)
        for row in self.state.videos.values():
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
            "models": flow.models(self.config, registry),
            "videos": {"done": counts["done"], "quarantined": counts["quarantined"]},
            "this_run": {"published": len(self.published), "quarantined": len(self.failed) + len(self.faults)},
            "chunks": {
                "done": sum(account.done for account in self.accounts.values()),
                "reused": sum(account.reused for account in self.accounts.values()),
            },
            "stages": seconds,
        }
        if self.linked:
            told["sequences"] = [asdict(one) for one in self.standings()]
        self.store.put("run.json", json.dumps(told, indent=2).encode())

    def standings(self) -> list[sequences.Standing]:
        """The sequences that were linked in this run."""
        return [one for one in sequences.standings(self.state) if one.sequence in self.linked]

    def _quarantine(self, video_id: str, uri: str, fault: Fault) -> None:
        self.failed[video_id] = fault
        books.hide_video(self.store, video_id)  # it may be done under another configuration
        self.store.delete(summary_name(video_id))
        for dataset in (*VIDEO_TABLES, "embeddings"):
            self.store.delete(f"{dataset}/{video_id}.parquet")
        for name in self.state.csv_names(video_id):
            self.store.delete(name)
        row = books.quarantined_row(video_id, uri, self.config_id, fault.stage, fault.reason)
        self.state.videos[video_id] = row
        books.write_video(self.store, row)

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
    """Of what a run depends on, for run.json."""
    named = {name: version(name) for name in NAMED_VERSIONS}
    return {"rollcall": version("rollcall"), "python": platform.python_version()} | named


@contextlib.contextmanager
def _ending_cleanly():  # noqa: ANN202
    """Ray goes down with the block, however it ends; a polite kill is an interruption like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        ray.shutdown()


def _clear_work(book: Book) -> None:
    """Remove what is left in the working area of videos that this configuration is through with, and what interrupted
    runs of others left behind and sequences wait for, once its time to live has passed. What a published video keeps,
    it keeps.

    A video leaves work behind where a run was killed after its last table, and where it was given up: other chunks of
    it were on their way then, and their workers wrote on.
    """
    done = book.state.done()
    through = {video_id for video_id, row in book.state.videos.items() if row["config_id"] == book.config_id}
    if book.config.biometrics.keep:
        through -= set(done)
    for video_id in sorted(through & {name.split("/")[1] for name in book.store.names(WORK)}):
        book.store.delete_tree(f"{WORK}/{video_id}")
    limit = datetime.now(UTC) - timedelta(days=book.config.run.work_ttl_days)
    drop_older(book.store, limit, spared=done)
    drop_older_summaries(book.store, limit, spared=sequences.keeping(book.state))


def _say_sources(listing: Listing) -> None:
    plural = "s" * (listing.num_other != 1)
    other = f"; {listing.num_other} other file{plural} left out" if listing.num_other else ""
    console.say(f"{len(listing.sources)} source{'s' * (len(listing.sources) != 1)}{other}")
    if not listing.sources:
        console.say("nothing to do: by its name nothing there is a video or picture, or it lies under the output")


def _say_models(models: dict[str, str], registry: Registry) -> None:
    named = {name: registry.entry(name).licence for name in models.values()}
    console.say("models: " + ", ".join(f"{name} ({licence})" for name, licence in named.items()))


def _say_results(book: Book, found: Sequence[Content]) -> None:
    if book.published:
        table = Table("video", "length", "shots", "persons", "warning", box=None, pad_edge=False, header_style="bold")
        for row in sorted(book.published.values(), key=lambda row: row["uri"])[:SHOWN_VIDEOS]:
            length = f"{row['duration_s']:.1f} s"
            name = row["uri"].rsplit("/", 1)[-1]
            table.add_row(name, length, str(row["num_shots"]), str(row["num_persons"]), row["warning"] or "")
        console.console.print(table)
        if len(book.published) > SHOWN_VIDEOS:
            console.say(f"… and {len(book.published) - SHOWN_VIDEOS} more videos")
    for uri, fault in sorted(book.faults.items()):
        console.say(f"quarantined at {fault.stage}: {uri}: {fault.reason}")
    for video_id, fault in book.failed.items():
        console.say(f"quarantined at {fault.stage}: {book.state.videos[video_id]['uri']}: {fault.reason}")
    for standing in book.standings():
        console.say(f"sequence {standing}")
    persons = sum(row["num_persons"] for row in book.published.values())
    given_up = sum(catalog.standing(content, book.state, book.config_id) is Standing.QUARANTINED for content in found)
    given_up -= len(book.failed)
    untouched = len(found) - len(book.published) - len(book.failed) - given_up
    done = f"{len(book.published)} video{'s' * (len(book.published) != 1)} done, {persons} persons"
    kept = f", {untouched} unchanged" if untouched else ""
    kept += f", {given_up} given up before (--retry-quarantined tries again)" if given_up else ""
    bad = f", {len(book.failed) + len(book.faults)} quarantined" if book.failed or book.faults else ""
    seconds = (datetime.now(UTC) - book.started_at).total_seconds()
    console.say(f"{done}{kept}{bad} in {seconds:.0f} s -> {book.store.uri}")


if __name__ == "__main__":
    run_app(app)
