"""`rollcall status`: the contents of an output, and the state of its last run."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.shared.run_state import Fault, RunState, read_state
from pipeline.errors import PassingError
from pipeline.storage.claims import Claim, latest_claim
from pipeline.storage.ledger import WORK, count_durable
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.store import Store
from pipeline.text import printable
from pipeline.video.sequences import sequence_statuses

SHOWN_GONE, SHOWN_ROWS = 5, 25
REFRESH_S = 10.0
"""Seconds between two looks at a run. It writes what is new about as often."""
DEFERRED = "deferred: "
"""The beginning of the reason of a source that a run has left to the next one."""
_NOT_DONE = {"deferred": "deferred", "quarantined": "quarantined", "kept": "no newer tables, the older ones stay"}
"""The lists of sources that a run could not do, with the titles of their tables."""

app = typer.Typer(**PLAIN)


@app.command()
def status(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show how far the run is until it ends, then everything.")
    ] = False,
) -> None:
    """Show what an output holds and how its run goes: videos done, running, quarantined or deferred with reasons,
    chunks durable, people found, rate and time left, what fails, who holds the output."""
    index = OutputIndex.open(uri)
    claim = latest_claim(index.store)
    run = read_state(index.store, claim)
    if follow and run is not None and run.status == "running":
        claim, run = _follow(index.store, run, as_json=as_json)
        index = OutputIndex.open(uri)
    holder = None if claim is None or claim.is_free() else claim
    facts = _facts(index, holder, run)
    if as_json:
        typer.echo(json.dumps(facts, indent=None if follow else 2, ensure_ascii=False))
    else:
        _show(facts, index, holder, run)


def _follow(store: Store, run: RunState, *, as_json: bool) -> tuple[Claim | None, RunState | None]:
    """Show the state of a run until it ends. Return the last claim and the state then."""
    claim, state, shown = None, run, ""
    on_terminal = console.console.is_terminal and not as_json
    with Live(console=console.console, transient=True) if on_terminal else nullcontext() as live:
        while True:
            text = json.dumps({"run": state.to_json()}, ensure_ascii=False) if as_json else str(state)
            if live is not None:
                live.update(Text(printable(text)))
            elif as_json:
                typer.echo(text)
            elif text != shown:
                console.say(text)
            shown = text
            if state.status != "running":
                return claim, state
            time.sleep(REFRESH_S)
            try:
                claim = latest_claim(store)
                state = read_state(store, claim) or state
            except PassingError:  # the next request may succeed
                continue


def _facts(index: OutputIndex, holder: Claim | None, run: RunState | None) -> dict[str, Any]:
    """Return what there is to say, for programs."""
    work_names = index.store.names(WORK)
    durable = count_durable(work_names)
    done = index.done()
    quarantined = [row for row in index.videos.values() if row["status"] == "quarantined"]
    running = {row["video_id"] for row in index.sources.values() if row["status"] == "pending"} - set(index.videos)
    unreadable = [
        row
        for row in index.sources.values()
        if row["current"] and row["status"] == "quarantined" and row["video_id"] is None
    ]
    sequences = sequence_statuses(index, work_names)
    named = {row["video_id"] for row in index.sources.values() if row["current"]}
    gone = sorted(uri for uri, row in index.sources.items() if not row["current"])
    last = _last_config_id(index)
    deferred = [row for row in index.sources.values() if row["current"] and (row["reason"] or "").startswith(DEFERRED)]
    kept = [row for row in index.sources.values() if row["current"] and row["video_id"] in index.failed]
    return {
        "videos": {
            "done": len(done),
            "running": len(running),
            "quarantined": len(quarantined),
            "deferred": len(deferred),
            "kept": len(index.failed),
            "forgotten": len(index.tombstones.videos),
            "current": sum(index.videos[video_id]["config_id"] == last for video_id in done),
        },
        "chunks": {"durable": sum(durable.values())},
        "sources": dict(Counter(row["status"] for row in index.sources.values())),
        "persons": sum(index.videos[video_id]["num_persons"] for video_id in done),
        "configurations": len({index.videos[video_id]["config_id"] for video_id in done}),
        "quarantined": [
            {name: row[name] for name in ("uri", "stage", "reason")}
            for row in sorted([*quarantined, *unreadable], key=lambda row: row["uri"])
        ],
        "deferred": [
            {"uri": row["uri"], "stage": row["stage"], "reason": row["reason"].removeprefix(DEFERRED)}
            for row in sorted(deferred, key=lambda row: row["uri"])
        ],
        "kept": [
            {"uri": row["uri"], "config_id": index.videos[row["video_id"]]["config_id"]}
            | {"failed_config_id": index.failed[row["video_id"]].config_id}
            | {name: getattr(index.failed[row["video_id"]], name) for name in ("stage", "reason")}
            for row in sorted(kept, key=lambda row: row["uri"])
        ],
        "vanished": {"sources": gone, "videos": len(set(index.videos) - named)},
        "sequences": [asdict(sequence) for sequence in sequences],
        "lease": holder and holder.facts(),
        "run": run and run.to_json(),
    }


def _show(facts: dict[str, Any], index: OutputIndex, holder: Claim | None, run: RunState | None) -> None:
    """Print the facts for a person."""
    videos = facts["videos"]
    finished = console.contents([index.videos[video_id] for video_id in index.done()])
    console.say(f"{index.store.uri}: {finished} done with {console.count(facts['persons'], 'person')}")
    if videos["running"]:
        not_done = "1 source is" if videos["running"] == 1 else f"{videos['running']} sources are"
        console.say(f"{not_done} not done yet; {console.count(facts['chunks']['durable'], 'chunk')} durable")
    if line := _vanished(facts["vanished"]["sources"], facts["vanished"]["videos"]):
        console.say(line)
    if line := _forgotten(videos["forgotten"], len(index.tombstones.persons)):
        console.say(line)
    if facts["configurations"] > 1:
        console.say(
            f"mixed: made with {facts['configurations']} configurations, {videos['current']} of {videos['done']} with "
            "that of the last run (column config_id of videos)"
        )
    if holder is not None:
        silent = ", which is silent and has probably died" if holder.looks_silent() else ""
        console.say(f"held by {holder}{silent}")
    for sequence in sequence_statuses(index):
        console.say(f"sequence {sequence}")
    if run is not None:
        console.say(str(run))
        _show_faults(run.faults)
    for name, title in _NOT_DONE.items():
        if facts[name]:
            table = Table(title, "stage", "reason", box=None, pad_edge=False, header_style="bold")
            for row in facts[name][:SHOWN_ROWS]:
                table.add_row(row["uri"], row["stage"], row["reason"])
            console.console.print(table)
            if len(facts[name]) > SHOWN_ROWS:
                console.say(f"… and {len(facts[name]) - SHOWN_ROWS} more; --json has all")


def _show_faults(faults: Sequence[Fault]) -> None:
    """Print what failed, except the videos and sources that the other tables name."""
    faults = [fault for fault in faults if not fault.event.endswith(("_quarantined", "_deferred"))]
    if not faults:
        return
    table = Table("what failed", "stage", "kind", "times", "last (UTC)", "why", box=None, pad_edge=False)
    for fault in faults[:SHOWN_ROWS]:
        why = (fault.message or "").splitlines()[:1]
        last = fault.last_at[11:19]
        table.add_row(fault.event.replace("_", " "), fault.stage, fault.kind, str(fault.count), last, *why)
    console.console.print(table)


def _vanished(gone: Sequence[str], num_videos: int) -> str:
    """Return a line on the sources that are gone and the videos that have no source left. It is empty if all are
    there."""
    names = [uri.rpartition("/")[2] for uri in gone[:SHOWN_GONE]]
    more = f" and {len(gone) - SHOWN_GONE} more" if len(gone) > SHOWN_GONE else ""
    facts = []
    if gone:
        facts.append(
            f"{console.count(len(gone), 'source')} {'is' if len(gone) == 1 else 'are'} gone ({', '.join(names)}{more})"
        )
    if num_videos:
        facts.append(f"{console.count(num_videos, 'video')} {'has' if num_videos == 1 else 'have'} no source any more")
    return f"{' and '.join(facts)}; process --prune removes what is known of them" if facts else ""


def _forgotten(num_videos: int, num_with_persons: int) -> str:
    """Return a line on the tombstones of an output. It is empty if there are none."""
    facts = []
    if num_videos:
        facts.append(f"{console.count(num_videos, 'video')} {'is' if num_videos == 1 else 'are'} forgotten")
    if num_with_persons:
        facts.append(f"persons of {console.count(num_with_persons, 'video')} are forgotten")
    return f"{' and '.join(facts)}: tombstones keep them out" if facts else ""


def _last_config_id(index: OutputIndex) -> str | None:
    """Return the configuration id of the last run, or None if no run has ended yet."""
    try:
        return json.loads(index.store.read("run.json"))["config_id"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    run_command(app)
