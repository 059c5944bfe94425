"""The messages of a run of `process`."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from rich.table import Table

from jobs.cli import console
from jobs.shared.run_record import RunRecord
from jobs.shared.small_people import small_people
from pipeline.flow.events import Work
from pipeline.planning import catalog
from pipeline.planning.catalog import Content, VideoStatus
from pipeline.planning.changes import Basis
from pipeline.planning.planner import VideoPlan
from pipeline.storage.listing import OpenListing
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.records import Row
from pipeline.video.relink import RelinkJob
from pipeline.weights import Registry

SHOWN_VIDEOS = 25
QUARANTINE_REMEDY = (
    "mend, replace or remove these files and run the same command again; --retry-quarantined tries them as they are, "
    "--allow-quarantined ends with status 0"
)


def say_plans(plans: Collection[VideoPlan]) -> None:
    """Print how the videos are made that this output already has in another form, and why."""
    reused = Counter(str(plan) for plan in plans if plan.basis < Basis.VIDEO or plan.steps or plan.note)
    for plan, count in reused.most_common(SHOWN_VIDEOS):
        console.say(f"{console.count(count, 'video')}: {plan}")


def say_not_relinked(record: RunRecord) -> None:
    """Print which videos cannot be relinked, and why."""
    for video_id, why in record.not_relinked.items():
        console.say(f"{record.index.videos[video_id]['uri']}: {why}; it is made again from the video")


def say_sources(listing: OpenListing) -> None:
    """Print how many sources were found, so far or at all."""
    if not listing.is_complete:
        console.say(f"{console.count(listing.num_listed, 'source')} so far, more are being listed")
        return
    num_other = listing.so_far().num_other
    other = f"; {console.count(num_other, 'other file')} left out" if num_other else ""
    console.say(f"{console.count(listing.num_listed, 'source')}{other}")
    if not listing.num_listed:
        console.say("nothing to do: by its name nothing there is a video or picture, or it lies under the output")


def say_vanished(record: RunRecord) -> None:
    """Print which sources of earlier runs have another name now, and which are gone."""
    for old in record.vanished[: console.SHOWN_NAMES]:
        if new := record.renamed.get(old):
            console.say(f"{console.last(old)} is {console.last(new)} now; the CSV of its old name is removed")
    if gone := [uri for uri in record.vanished if uri not in record.renamed]:
        are = "1 source is" if len(gone) == 1 else f"{len(gone)} sources are"
        console.say(f"{are} gone: {console.few(gone)}; what is known of them stays until process --prune")


def say_pruned(index: OutputIndex) -> None:
    """Print what `prune_output` is about to remove."""
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


def say_models(models: dict[str, str], registry: Registry) -> None:
    """Print the chosen models with their licences. models: name by role."""
    named = {name: registry.entry(name).licence for name in models.values()}
    console.say("models: " + ", ".join(f"{name} ({licence})" for name, licence in named.items()))


def say_work(work: Sequence[Work | RelinkJob], num_pictures: int, record: RunRecord, *, loads_models: bool) -> None:
    """Print how much there is to do, `num_pictures` of it pictures, and what is reused."""
    amount = console.videos_and_pictures(len(work) - num_pictures, num_pictures)
    if num_pictures < len(work):
        amount += f", {console.duration(sum(job.duration_s for job in work))}"
    num_reused = sum(cost.reused for cost in record.costs.values())
    are = "is" if num_reused == 1 else "are"
    reused = f", {console.count(num_reused, 'chunk')} {are} there already" if num_reused else ""
    loading = "; loading models" if loads_models else ""
    console.say(f"processing {amount} on {record.config.compute.device}{reused}{loading}")


def say_results(record: RunRecord, contents: Sequence[Content]) -> None:
    """Print what a run has made, what it gave up and why, and the totals, which come last."""
    if record.published:
        _show_published(list(record.published.values()))
    _say_some(
        [
            *(f"quarantined at {each.stage}: {uri}: {each.reason}" for uri, each in sorted(record.unreadable.items())),
            *(_given_up(record, video_id) for video_id in record.quarantined),
        ],
        record,
    )
    if record.unreadable or record.quarantined:
        console.say(QUARANTINE_REMEDY)
    _say_some(
        [f"deferred at {each.stage}: {uri}: {each.reason}" for uri, each in sorted(record.deferred.items())], record
    )
    for status in record.sequence_statuses():
        console.say(f"sequence {status}")
    if hint := small_people(record.store, list(record.published.values()), record.config):
        console.say(hint)
    if record.index.done():
        place = record.store.full("")
        console.say(f"all results as one page: rollcall report {record.store.uri}")
        console.say(f"tables for pandas and rollcall.read: {place}persons, {place}detections, …; CSV: {place}csv")
    _say_totals(record, contents)


def _given_up(record: RunRecord, video_id: str) -> str:
    row, failure = record.index.videos[video_id], record.quarantined[video_id]
    stays = f"; its tables of configuration {row['config_id']} stay" if video_id in record.kept else ""
    return f"quarantined at {failure.stage}: {row['uri']}: {failure.reason}{stays}"


def _say_some(lines: Sequence[str], record: RunRecord) -> None:
    """Print the first of the lines, and how many more there are. A nightly log must stay readable."""
    for line in lines[:SHOWN_VIDEOS]:
        console.say(line)
    if len(lines) > SHOWN_VIDEOS:
        console.say(f"… and {len(lines) - SHOWN_VIDEOS} more; rollcall status {record.store.uri} --json has all")


def _show_published(rows: Sequence[Row]) -> None:
    table = Table("source", "length", "shots", "persons", "warning", box=None, pad_edge=False, header_style="bold")
    for row in sorted(rows, key=lambda row: row["uri"])[:SHOWN_VIDEOS]:
        name, length = console.last(row["uri"]), console.length(row)
        table.add_row(name, length, str(row["num_shots"]), str(row["num_persons"]), row["warning"] or "")
    console.console.print(table)
    if len(rows) > SHOWN_VIDEOS:
        console.say(f"… and {len(rows) - SHOWN_VIDEOS} more")


def _say_totals(record: RunRecord, contents: Sequence[Content]) -> None:
    statuses = [catalog.video_status(content, record.index, record.config_id) for content in contents]
    num_quarantined = len(record.quarantined)
    num_given_up = statuses.count(VideoStatus.QUARANTINED) - num_quarantined
    num_forgotten = statuses.count(VideoStatus.FORGOTTEN)
    num_left = sum(any(uri in record.deferred for uri in content.uris) for content in contents)
    num_unchanged = len(contents) - len(record.published) - num_quarantined - num_given_up - num_forgotten - num_left
    num_quarantined += len(record.unreadable)
    num_persons = sum(row["num_persons"] for row in record.published.values())
    totals = [f"{console.contents(record.published.values())} done", console.count(num_persons, "person")]
    if num_unchanged:
        totals.append(f"{num_unchanged} unchanged")
    if num_given_up:
        totals.append(f"{num_given_up} given up before (--retry-quarantined tries again)")
    if num_forgotten:
        totals.append(f"{num_forgotten} forgotten")
    if num_quarantined:
        totals.append(f"{num_quarantined} quarantined")
    if record.deferred_sequences:
        totals.append(f"{console.count(len(record.deferred_sequences), 'sequence')} deferred")
    if record.deferred:
        totals.append(f"{len(record.deferred)} deferred (run the same command again)")
    seconds = (datetime.now(UTC) - record.started_at).total_seconds()
    console.say(f"{', '.join(totals)} in {console.duration(seconds)} -> {record.store.uri}")
