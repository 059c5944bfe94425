"""`rollcall forget`: remove persons or videos from everything that an output holds, for good."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from jobs.cli.console import console, count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import WaitLease
from jobs.cli.person_keys import parse_person
from jobs.shared.holding import holding
from jobs.shared.run_json import new_run_id
from pipeline.cores.retention import AgeBy, parse_age
from pipeline.errors import MachineError, UserError
from pipeline.storage import tombstones
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.storage.tombstones import Removal
from pipeline.video import forgetting
from pipeline.video.forgetting import PersonKey, Removed
from pipeline.video.proof import find_traces
from pipeline.video.retention import aged_videos

SHOWN = 25

app = typer.Typer(**PLAIN)


@app.command()
def forget(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    persons: Annotated[
        list[str] | None,
        typer.Option("--person", metavar="VIDEO_ID:PERSON_ID", help="A person; repeat it for several."),
    ] = None,
    videos: Annotated[
        list[str] | None, typer.Option("--video", metavar="VIDEO_ID", help="A video; repeat it for several.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Every video of that age, as 12h, 30d or 8w."),
    ] = None,
    by: Annotated[
        AgeBy,
        typer.Option(
            "--by",
            help="What the age counts from: the recording, or the first processing, which stands in for a recording "
            "time that is not known.",
        ),
    ] = AgeBy.RECORDED,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Remove persons or videos from every table, picture and working file of an output, and keep them out.

    A tombstone in URI/_forgotten keeps `process`, `relink` and `compact` from bringing them back. The sources are not
    touched. There is no way back.
    """
    keys = [parse_person("--person", text) for text in persons or []]
    limit = None if older_than is None else datetime.now(UTC) - parse_age(older_than)
    if not keys and not videos and limit is None:
        raise UserError("nothing is named; name --person VIDEO_ID:PERSON_ID, --video VIDEO_ID or --older-than AGE")
    store = OutputIndex.open(uri).store
    if dry_run:
        index = OutputIndex.load(store)
        _show_plan(store, _plan(index, keys, [*(videos or []), *_old(index, limit, by)]))
        return
    store.check_writable()
    with holding(store, "forget", new_run_id(), wait_lease) as held:
        earlier = tombstones.read_unfinished(held)
        if forgetting.finish(held):
            say("an earlier removal that was interrupted is finished")
        index = OutputIndex.load(held)
        removals = _plan(index, keys, [*(videos or []), *_old(index, limit, by)])
        tombstones.begin(held, removals)
        removed = forgetting.finish(held) or Removed()
        num_read, left = find_traces(held, [*removals, *earlier])
    _show_removed(store, removals, removed)
    if left:
        raise MachineError(
            f"{count(len(left), 'file')} of {store.uri} still hold something, as {left[0]}: another program writes "
            f"there; end it, and run the same command again"
        )
    say(f"verified: {count(num_read, 'file')} read again, nothing is left -> {store.uri}")


def _old(index: OutputIndex, limit: datetime | None, by: AgeBy) -> list[str]:
    """Return the videos that are older than the limit, and print since when each one is there."""
    if limit is None:
        return []
    aged = aged_videos(index, by)
    old = [video for video in aged if video.at is not None and video.at < limit]
    for video in old[:SHOWN]:
        say(f"{video.video_id}: {video.by} {video.at:%Y-%m-%d %H:%M} UTC, {index.videos[video.video_id]['uri']}")
    if len(old) > SHOWN:
        say(f"… and {len(old) - SHOWN} more videos")
    if unknown := sum(video.at is None for video in aged):
        say(f"{count(unknown, 'video')} of unknown age, which an earlier version made, stay: name them with --video")
    say(f"{count(len(old), 'video')} of {len(aged)} older than {limit:%Y-%m-%d %H:%M} UTC")
    return [video.video_id for video in old]


def _plan(index: OutputIndex, keys: Sequence[PersonKey], videos: Sequence[str]) -> list[Removal]:
    """Return what is to be removed. What is forgotten already is left out."""
    known = [video_id for video_id in videos if video_id not in index.tombstones.videos]
    if len(known) < len(videos):
        say(f"{count(len(videos) - len(known), 'video')} forgotten before")
    whole = forgetting.plan_videos(index, known)
    persons = forgetting.plan_persons(index, [key for key in keys if key[0] not in videos])
    if absent := len({key for key in keys if key[0] not in videos} - _keys(persons)):
        say(f"{count(absent, 'person')} not there any more: forgotten before")
    return [*whole, *(removal for removal in persons if removal.video_id not in known)]


def _keys(removals: Sequence[Removal]) -> set[PersonKey]:
    return {(removal.video_id, person_id) for removal in removals for person_id in removal.person_ids}


def _show_plan(store: Store, removals: Sequence[Removal]) -> None:
    _show_removals(removals)
    num_persons = sum(len(removal.person_ids) for removal in removals)
    num_videos = sum(removal.is_whole for removal in removals)
    say(f"would remove {count(num_videos, 'video')} and {count(num_persons, 'person')} from {store.uri}")


def _show_removals(removals: Sequence[Removal]) -> None:
    table = Table("video_id", "what", box=None, pad_edge=False, header_style="bold")
    for removal in removals[:SHOWN]:
        ids = ", ".join(map(str, sorted(removal.person_ids)))
        table.add_row(removal.video_id, "the whole video" if removal.is_whole else f"person_id {ids}")
    console.print(table)
    if len(removals) > SHOWN:
        say(f"… and {len(removals) - SHOWN} more videos")


def _show_removed(store: Store, removals: Sequence[Removal], removed: Removed) -> None:
    if removals:
        _show_removals(removals)
    if rows := ", ".join(f"{name} {number:,}" for name, number in sorted(removed.rows.items()) if number):
        say(f"removed rows: {rows}")
    if removed.files:
        example = min(removed.files, key=lambda name: name.rpartition("/")[2].startswith("."))  # no hidden mark
        say(f"removed files made from the tables: {count(len(removed.files), 'file')}, as {example}")
        say("report, annotate, anonymise and export make them again, without what is forgotten")


if __name__ == "__main__":
    run_command(app)
