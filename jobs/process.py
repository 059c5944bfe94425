"""`rollcall process`: from sources to tables, the main job."""

import contextlib
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated

import typer
from rich.table import Table

from jobs import console
from jobs.archive import identify_aloud, list_aloud, probe_aloud
from jobs.book import Book, clear_work
from jobs.errors import run as run_app
from jobs.help import PLAIN
from jobs.hints import small_people
from jobs.options import STARTER, ConfigFiles, Output, Profile, SequenceBy, Settings, Sources
from jobs.prepare import check_tracking, decide_device, verified_models
from pipeline.config import Config, load
from pipeline.flow.engine import Engines, stop_ray
from pipeline.flow.events import ChunkDone, Work
from pipeline.flow.pools import Maps
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, VideoStatus
from pipeline.planning.changes import Basis
from pipeline.planning.planner import Planner, Target, VideoPlan
from pipeline.storage import records, replacement, tables
from pipeline.storage.ledger import Ledger
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing
from pipeline.storage.store import Store
from pipeline.video import sequence as sequences
from pipeline.video.relink import RelinkJob
from pipeline.weights import Registry

QUARANTINED = 3
QUARANTINE_REMEDY = (
    "mend, replace or remove these files and run the same command again; --retry-quarantined tries them as they are, "
    "--allow-quarantined ends with status 0"
)
SAVE_EVERY_S = 10
SHOWN_VIDEOS = 25
NAMED_VERSIONS = ("ray", "torch", "ultralytics", "boxmot", "av", "numpy", "pyarrow", "opencv-contrib-python-headless")

app = typer.Typer(**PLAIN)


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
    """Find who appears in SOURCES, when and where, who is who, how old and of which gender; write tables to OUTPUT."""
    console.say(f"rollcall {version('rollcall')}: looking at the sources")
    chosen = load(config or [], [*(settings or []), *([f"run.address={address}"] if address else [])], profile)
    store = Store(output)
    listing = list_aloud(sources, store.uri, sequence)
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
    """Process the listed sources. Return how many of them were quarantined in this run."""
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
    """Carry out the steps of a run. Return how many sources were quarantined in it."""
    replacement.finish_replacing(store)
    index = OutputIndex.load(store)
    tables.create(store, config.biometrics.keep)
    ids = identify_aloud(listing, index)
    config = decide_device(config)
    target = Target.of(config, registry)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    records.write_recipe(store, target.config_id, target.recipe.to_json())
    book = Book(index, target, run_id, registry)
    found = catalog.contents(ids)
    book.open(listing, ids)
    chosen = book.select(found, retry_quarantined)
    _say_vanished(book)
    plans = Planner(index).plans(chosen, target)
    _say_plans(plans.values())
    maps = Maps.of(config, registry, Ledger(store, target.recipe.keys), book.run_id)
    with Engines(config, maps, console.say) as engines:
        work = _prepare(chosen, plans, engines, book)
        book.save_sources()
        sequences.withdraw(store, {content.video_id for content in chosen})
        try:
            if work:
                _carry_out(work, engines, book)
            if again := [content for content in chosen if content.video_id in book.not_relinked]:
                _say_not_relinked(book)
                work = _prepare(again, Planner(index).plans_anew(again, target), engines, book)
                _carry_out(work, engines, book)
            if prune:
                _say_pruned(index)
                book.prune()
            _link_sequences(engines, book)
        except (KeyboardInterrupt, SystemExit):  # a reader of the standard output who has left raises SystemExit
            book.close("interrupted", registry)
            raise
        except BaseException:
            book.close("failed", registry)
            raise
    if close_sequences:
        sequences.close(index, {source.sequence for source in listing.sources if source.sequence})
    clear_work(book)
    book.close("done", registry)
    _say_results(book, found)
    return len(book.faults) + len(book.failed)


def _prepare(
    chosen: Sequence[Content], plans: Mapping[str, VideoPlan], engines: Engines, book: Book
) -> list[Work | RelinkJob]:
    """Probe the containers and return the work on each content. The engine starts at the same time."""
    with ThreadPoolExecutor(1) as meanwhile:
        unknown = [content for content in chosen if plans[content.video_id].relink is None]
        probing = meanwhile.submit(probe_aloud, unknown)
        if unknown:
            check_tracking(book.config)
            with_pixels = any(plans[content.video_id].basis is Basis.VIDEO for content in unknown)
            engines.begin(len(unknown), with_pixels=with_pixels)
        return book.work(chosen, plans, probing.result())


def _carry_out(work: Sequence[Work | RelinkJob], engines: Engines, book: Book) -> None:
    mapped = [one for one in work if isinstance(one, Work) and (one.rows or one.faces)]
    num_frames = round(sum(one.duration_s * float(one.job.probe.fps) for one in mapped))
    seconds = sum(one.duration_s for one in work)
    reused = sum(account.reused for account in book.accounts.values())
    pictures = sum(_is_picture(one) for one in work)
    told = console.videos_and_pictures(len(work) - pictures, pictures)
    told += f", {console.duration(seconds)}" if pictures < len(work) else ""
    there = f", {console.count(reused, 'chunk')} {'is' if reused == 1 else 'are'} there already" if reused else ""
    loading = "; loading models" if mapped else ""
    console.say(f"processing {told} on {book.config.compute.device}{there}{loading}")
    noun = "videos" if not pictures else "pictures" if pictures == len(work) else "videos and pictures"
    with console.meter(len(work), num_frames, noun) as meter:
        for event in engines.run(work):
            book.note(event)
            if isinstance(event, ChunkDone):
                meter.add_frames(event.num_frames)
            else:
                meter.add_video()


def _is_picture(work: Work | RelinkJob) -> bool:
    return console.is_picture(work.relink.row) if isinstance(work, RelinkJob) else work.job.probe.kind == "image"


def _link_sequences(engines: Engines, book: Book) -> None:
    """Link the files of every sequence in which a file has changed."""
    sequences.drop_ended(book.index)
    jobs = sequences.find_work(book.index)
    if jobs:
        book.linked = [job.name for job in jobs]
        console.say(f"linking {console.count(len(jobs), 'sequence')}")
        book.not_linked = engines.link_sequences(jobs)
        for name, why in book.not_linked.items():
            console.say(f"sequence {name} is not linked: {why}")


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


def _say_plans(plans: Collection[VideoPlan]) -> None:
    """Print how the videos are made that this output already has in another form, and why."""
    told = Counter(str(plan) for plan in plans if plan.basis < Basis.VIDEO or plan.steps or plan.note)
    for way, count in told.most_common(SHOWN_VIDEOS):
        console.say(f"{console.count(count, 'video')}: {way}")


def _say_not_relinked(book: Book) -> None:
    for video_id, why in book.not_relinked.items():
        console.say(f"{book.index.videos[video_id]['uri']}: {why}; it is made again from the video")


def _say_sources(listing: Listing) -> None:
    other = f"; {console.count(listing.num_other, 'other file')} left out" if listing.num_other else ""
    console.say(f"{console.count(len(listing.sources), 'source')}{other}")
    if not listing.sources:
        console.say("nothing to do: by its name nothing there is a video or picture, or it lies under the output")


def _say_vanished(book: Book) -> None:
    for old in book.vanished[: console.SHOWN_NAMES]:
        if new := book.renamed.get(old):
            console.say(f"{console.last(old)} is {console.last(new)} now; the CSV of its old name is removed")
    if gone := [uri for uri in book.vanished if uri not in book.renamed]:
        are = "1 source is" if len(gone) == 1 else f"{len(gone)} sources are"
        console.say(f"{are} gone: {console.few(gone)}; what is known of them stays until process --prune")


def _say_pruned(index: OutputIndex) -> None:
    gone = [uri for uri, row in sorted(index.sources.items()) if not row["current"]]
    unnamed = [index.videos[video_id]["uri"] for video_id in index.unnamed()]
    if not gone and not unnamed:
        console.say("nothing to prune: every source is there, and every video has one")
    if gone:
        are = "is" if len(gone) == 1 else "are"
        console.say(f"pruning {console.count(len(gone), 'source')} that {are} gone: {console.few(gone)}")
    if unnamed:
        console.say(
            f"pruning all rows of {console.count(len(unnamed), 'video')} that no source names: {console.few(unnamed)}"
        )


def _say_models(models: dict[str, str], registry: Registry) -> None:
    named = {name: registry.entry(name).licence for name in models.values()}
    console.say("models: " + ", ".join(f"{name} ({licence})" for name, licence in named.items()))


def _say_results(book: Book, found: Sequence[Content]) -> None:
    if book.published:
        table = Table("source", "length", "shots", "persons", "warning", box=None, pad_edge=False, header_style="bold")
        for row in sorted(book.published.values(), key=lambda row: row["uri"])[:SHOWN_VIDEOS]:
            length = console.length(row)
            name = console.last(row["uri"])
            table.add_row(name, length, str(row["num_shots"]), str(row["num_persons"]), row["warning"] or "")
        console.console.print(table)
        if len(book.published) > SHOWN_VIDEOS:
            console.say(f"… and {len(book.published) - SHOWN_VIDEOS} more")
    for uri, fault in sorted(book.faults.items()):
        console.say(f"quarantined at {fault.stage}: {uri}: {fault.reason}")
    for video_id, fault in book.failed.items():
        console.say(f"quarantined at {fault.stage}: {book.index.videos[video_id]['uri']}: {fault.reason}")
    if book.faults or book.failed:
        console.say(QUARANTINE_REMEDY)
    for standing in book.sequence_statuses():
        console.say(f"sequence {standing}")
    if hint := small_people(book.store, list(book.published.values()), book.config):
        console.say(hint)
    persons = sum(row["num_persons"] for row in book.published.values())
    given_up = sum(
        catalog.video_status(content, book.index, book.config_id) is VideoStatus.QUARANTINED for content in found
    )
    given_up -= len(book.failed)
    untouched = len(found) - len(book.published) - len(book.failed) - given_up
    done = f"{console.contents(book.published.values())} done, {console.count(persons, 'person')}"
    kept = f", {untouched} unchanged" if untouched else ""
    kept += f", {given_up} given up before (--retry-quarantined tries again)" if given_up else ""
    bad = f", {len(book.failed) + len(book.faults)} quarantined" if book.failed or book.faults else ""
    seconds = (datetime.now(UTC) - book.started_at).total_seconds()
    console.say(f"{done}{kept}{bad} in {console.duration(seconds)} -> {book.store.uri}")


if __name__ == "__main__":
    run_app(app)
