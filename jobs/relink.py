"""`rollcall relink`: make persons and all tables again from stored data, without decoding or running a model."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import WaitLease
from jobs.shared.checks import check_tracking
from jobs.shared.holding import holding
from jobs.shared.run_journal import keeping_journal, submission_id
from jobs.shared.run_json import last_success, new_run_id, run_facts
from pipeline.config import load, restored
from pipeline.errors import DataError, PassingError, UserError
from pipeline.flow import journal
from pipeline.flow.deferrals import Deferrals, in_rounds
from pipeline.flow.sequence_ends import link_here, link_in_rounds
from pipeline.planning.changes import Basis
from pipeline.planning.recipe import Recipe
from pipeline.planning.relink import RELINKED, Relink, choose_basis, kept_chunks
from pipeline.storage import records, replacement, video_rows
from pipeline.storage.event_log import EventTarget
from pipeline.storage.ledger import WORK
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.video import forgetting, sequences
from pipeline.video.relink import relink_video

SHOWN_VIDEOS = 25
FAILED, DEFERRED = 3, 4

app = typer.Typer(**PLAIN)


@app.command()
def relink(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One knob, as identity.max_gap_s=2; repeat it, later wins."),
    ] = None,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Make persons and all tables of an output again from what is stored, under other knobs; runs no model.

    identity.*, person.*, crossings.*, track.* and cuts.* can be set; what is not set stays as each video was made.
    Where biometrics were not kept, only thresholds can be moved, limits made smaller, and lines and zones drawn.
    """
    check_settings(settings or [])
    store = OutputIndex.open(uri).store
    store.check_writable()
    run_id = new_run_id()
    events = EventTarget(store.uri, run_id, submission_id())
    with holding(store, "relink", run_id, wait_lease) as held, keeping_journal(events, held):
        status = _relink_all(held, settings or [], run_id)
    if status:
        sys.exit(status)


def _relink_all(store: Store, settings: Sequence[str], run_id: str) -> int:
    """Make all videos again whose knobs change. Return the exit status."""
    forgetting.finish(store)
    replacement.finish_replacing(store, store.names(WORK))
    index, waits_s = OutputIndex.load(store), load(settings=settings).run.deferral_waits_s
    tasks = find_work(index, settings)
    bases = choose_bases(tasks)
    for config in {
        task.config_id: task.after for task, basis in zip(tasks, bases, strict=True) if basis is Basis.CHUNKS
    }.values():
        check_tracking(config)
    kept = sum(row["status"] == "done" for row in index.videos.values()) - len(tasks)
    if not tasks:
        console.say(f"nothing to do: {_videos(kept)} made with these knobs already")
        return DEFERRED if link_sequences(index, waits_s) else 0
    so_already = f", {kept} so already" if kept else ""
    console.say(f"{_videos(len(tasks))} to be made again, from {_list_bases(bases)}{so_already}")
    sequences.withdraw(store, {task.video_id for task in tasks})
    record = carry_out(tasks, bases, index, run_id, waits_s)
    num_deferred = len(record.deferred) + link_sequences(index, waits_s)
    video_rows.refresh(store)
    return DEFERRED if num_deferred else FAILED if record.failed else 0


def link_sequences(index: OutputIndex, waits_s: Sequence[float]) -> int:
    """Link the files of every sequence in which a file has changed. Return how many are left to the next run."""
    ends = list(link_in_rounds(sequences.find_work(index), link_here, Deferrals(waits_s)))
    linked = {end.name for end in ends if not end.why}
    for status in sequences.sequence_statuses(index):
        if status.sequence in linked:
            console.say(f"sequence {status}")
    for end in ends:
        if end.why:
            console.say(f"sequence {end.name} is not linked: {end.why}")
    return sum(end.may_pass for end in ends)


def check_settings(settings: Sequence[str]) -> None:
    """Raise UserError for an unknown key, and for a knob that needs the videos to take effect."""
    load(settings=settings)
    for setting in settings:
        if setting.partition("=")[0].split(".")[0] not in RELINKED:
            raise UserError(
                f"--set {setting}: relink can change {', '.join(f'{name}.*' for name in RELINKED)}, which act on what "
                f"is stored; the rest needs the videos: set it for `rollcall process`"
            )


def find_work(index: OutputIndex, settings: Sequence[str]) -> list[Relink]:
    """Return the finished videos whose knobs `settings` would change, sorted by
    uri."""
    store = index.store
    done = [row for row in index.videos.values() if row["status"] == "done"]
    tasks = []
    for config_id in sorted({row["config_id"] for row in done}):
        same_recipe = [row for row in done if row["config_id"] == config_id]
        stored = records.read_recipe(store, config_id)
        where = store.full(f"recipes/{config_id}.json")
        if stored is None:
            raise UserError(
                f"{where} is missing, which says how {same_recipe[0]['uri']}{_and_others(len(same_recipe))} was made; "
                f"`rollcall process` makes such videos again"
            )
        recipe = Recipe.from_json(stored)
        before, after = restored(recipe.knobs, where), restored(recipe.knobs, where, settings)
        durable = kept_chunks(store, recipe) if before.biometrics.keep else {}
        for row in same_recipe:
            task = Relink(
                store=store,
                row=row,
                recipe=recipe,
                wanted=recipe.reduced_with(after),
                before=before,
                after=after,
                csv_names=tuple(index.csv_names(row["video_id"])),
                durable=durable.get(row["video_id"], ()),
            )
            if task.config_id != config_id:
                tasks.append(task)
    return sorted(tasks, key=lambda task: task.row["uri"])


def choose_bases(tasks: Sequence[Relink]) -> list[Basis]:
    """Return the stored data that each video is made from.

    Raises UserError, before any work, if the stored data of a video is not enough.
    """
    bases, lacking = [], []
    for task in tasks:
        try:
            bases.append(choose_basis(task))
        except UserError as error:
            lacking.append(error)
    if lacking:
        raise UserError(f"{lacking[0]}{f' (likewise {_videos(len(lacking) - 1)})' if len(lacking) > 1 else ''}")
    return bases


def carry_out(
    tasks: Sequence[Relink], bases: Sequence[Basis], index: OutputIndex, run_id: str, waits_s: Sequence[float] = ()
) -> "RelinkRecord":
    """Publish one video after the other. Those whose storage fails for the moment are tried again in rounds.

    The record of the run is written however it ends.

    waits_s: seconds before each round.
    """
    record, deferrals = RelinkRecord(run_id), Deferrals(waits_s)
    work = {task.video_id: (task, basis) for task, basis in zip(tasks, bases, strict=True)}
    status = "failed"
    try:
        for batch in in_rounds(work, deferrals):
            for task, basis in batch:
                _carry_out_one(task, basis, index, record, deferrals)
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        console.say("interrupted; the same command goes on from there")
        raise
    finally:
        record.write(index, status)
    record.show(index.store)
    return record


def _carry_out_one(
    task: Relink, basis: Basis, index: OutputIndex, record: "RelinkRecord", deferrals: Deferrals
) -> None:
    uri, started_at, started = task.row["uri"], datetime.now(UTC), time.perf_counter()
    named = {"video": task.video_id, "stage": "relink", "hidden": uri}
    try:
        records.write_recipe(task.store, task.config_id, task.wanted.to_json())
        row = index.videos[task.video_id] = relink_video(task, basis)
    except DataError as error:
        record.failed[uri] = str(error)
        journal.note("video_not_relinked", "warning", **named, kind="DataError", message=str(error))
        return
    except PassingError as error:
        if not deferrals.fail(task.video_id, str(error)):
            record.deferred[uri] = str(error)
            journal.note("video_deferred", "warning", **named, kind="PassingError", message=str(error))
        return
    deferrals.succeed()
    record.add(task, basis, row, started_at, time.perf_counter() - started)


@dataclass(slots=True)
class RelinkRecord:
    """The part of `runs` and run.json that a run of `relink` writes.

    run_id: UTC time of the start, and a random suffix.
    started_at: UTC time.
    rows: rows of `runs`, one per video made.
    done: each video made, the data that it was made from, and its row of `videos`.
    failed: reasons by uri. Says why a video stays as it was.
    deferred: reasons by uri. Says why a video is left to the next run.
    seconds: s of work over all videos.
    """

    run_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows: list[dict[str, Any]] = field(default_factory=list)
    done: list[tuple[Relink, Basis, dict[str, Any]]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    deferred: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, task: Relink, basis: Basis, row: dict[str, Any], started_at: datetime, seconds: float) -> None:
        """RelinkRecord a video that was made again, with its new row of `videos`."""
        self.done.append((task, basis, row))
        self.seconds += seconds
        price = task.after.run.cpu_hour_price
        cost = None if price is None else round(seconds * price / 3600, 6)
        spent = {"seconds": round(seconds, 3), "gpu_seconds": 0.0, "cost": cost}
        num_chunks = 0 if basis is Basis.SCORES else len(task.durable)
        self.rows.append(
            records.run_row(
                self.run_id,
                task.video_id,
                started_at,
                **spent,
                attempts=1,
                num_chunks=num_chunks,
                chunks_reused=num_chunks,
                stages=[{"stage": "relink", **spent}],
            )
        )
        journal.note("video_published", video=task.video_id, stage="relink", **spent, persons=row["num_persons"])

    def write(self, index: OutputIndex, status: str) -> None:
        """Write the rows of `runs`, and run.json with the configuration under which most of the videos were made."""
        if not self.done:
            return
        records.write_run(index.store, self.run_id, self.rows)
        config_id, _ = Counter(row["config_id"] for _, _, row in self.done).most_common(1)[0]
        task = next(task for task, _, row in self.done if row["config_id"] == config_id)
        facts = {
            "run_id": self.run_id,
            "command": "relink",
            **run_facts(index, task.after, config_id, task.recipe.models, self.started_at, status),
            "last_success_at": last_success(index.store),
            "this_run": {
                "published": len(self.done),
                "quarantined": 0,
                "failed": len(self.failed),
                "deferred": len(self.deferred),
            },
            "chunks": {"done": 0, "reused": sum(row["chunks_reused"] for row in self.rows)},
            "stages": {"relink": {"seconds": round(self.seconds, 3), "gpu_seconds": 0.0}},
        }
        index.store.put("run.json", json.dumps(facts, indent=2).encode())

    def show(self, store: Store) -> None:
        """Print what was made, what stays as it was and why, and the totals."""
        table = Table("video", "made of", "persons", box=None, pad_edge=False, header_style="bold")
        for task, basis, row in self.done[:SHOWN_VIDEOS]:
            persons = f"{task.row['num_persons']} -> {row['num_persons']}"
            table.add_row(console.last(task.row["uri"]), basis.made_of, persons)
        console.console.print(table)
        if len(self.done) > SHOWN_VIDEOS:
            console.say(f"… and {len(self.done) - SHOWN_VIDEOS} more videos")
        for uri, why in self.failed.items():
            console.say(f"stays as it was: {uri}: {why}; process makes it again from the video")
        for uri, why in self.deferred.items():
            console.say(f"deferred: {uri}: {why}; run the same command again")
        persons = sum(row["num_persons"] for _, _, row in self.done)
        made = f"{_videos(len(self.done))} made again, {console.count(persons, 'person')}"
        console.say(f"{made}, in {self.seconds:.1f} s -> {store.uri}")


def _list_bases(bases: Sequence[Basis]) -> str:
    return ", ".join(f"{basis.made_of} ({count})" for basis, count in sorted(Counter(bases).items())) or "nothing"


def _videos(count: int) -> str:
    return f"{count} video{'s' * (count != 1)}"


def _and_others(count: int) -> str:
    return f" and {_videos(count - 1)} more" if count > 1 else ""


if __name__ == "__main__":
    run_command(app)
