"""`rollcall status`: the contents of an output."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from jobs.cli import console
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from pipeline.storage.claims import look
from pipeline.storage.ledger import count_durable
from pipeline.storage.output_index import OutputIndex
from pipeline.video.sequences import sequence_statuses

SHOWN_GONE = 5

app = typer.Typer(**PLAIN)


@app.command()
def status(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what an output holds: videos done, running, quarantined with reasons, chunks durable, people found."""
    index = OutputIndex.open(uri)
    holder = look(index.store)
    if holder is not None and holder.is_free():
        holder = None
    durable = count_durable(index.store)
    done = index.done()
    quarantined = [row for row in index.videos.values() if row["status"] == "quarantined"]
    running = {row["video_id"] for row in index.sources.values() if row["status"] == "pending"} - set(index.videos)
    unreadable = [
        row
        for row in index.sources.values()
        if row["current"] and row["status"] == "quarantined" and row["video_id"] is None
    ]
    sequences = sequence_statuses(index)
    named = {row["video_id"] for row in index.sources.values() if row["current"]}
    gone = sorted(uri for uri, row in index.sources.items() if not row["current"])
    last = _last_config_id(index)
    facts = {
        "videos": {
            "done": len(done),
            "running": len(running),
            "quarantined": len(quarantined),
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
        "vanished": {"sources": gone, "videos": len(set(index.videos) - named)},
        "sequences": [asdict(sequence) for sequence in sequences],
        "lease": holder and holder.facts(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    videos = facts["videos"]
    finished = console.contents([index.videos[video_id] for video_id in done])
    console.say(f"{index.store.uri}: {finished} done with {console.count(facts['persons'], 'person')}")
    if videos["running"]:
        not_done = "1 source is" if videos["running"] == 1 else f"{videos['running']} sources are"
        console.say(f"{not_done} not done yet; {console.count(facts['chunks']['durable'], 'chunk')} durable")
    if line := _vanished(gone, facts["vanished"]["videos"]):
        console.say(line)
    if facts["configurations"] > 1:
        console.say(
            f"mixed: made with {facts['configurations']} configurations, {videos['current']} of {videos['done']} with "
            "that of the last run (column config_id of videos)"
        )
    if holder is not None:
        silent = ", which is silent and has probably died" if holder.looks_silent() else ""
        console.say(f"held by {holder}{silent}")
    for sequence in sequences:
        console.say(f"sequence {sequence}")
    if facts["quarantined"]:
        table = Table("quarantined", "stage", "reason", box=None, pad_edge=False, header_style="bold")
        for row in facts["quarantined"]:
            table.add_row(row["uri"], row["stage"], row["reason"])
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


def _last_config_id(index: OutputIndex) -> str | None:
    """Return the configuration id of the last run, or None if no run has ended yet."""
    try:
        return json.loads(index.store.read("run.json"))["config_id"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    run_command(app)
