"""`rollcall status`: what an output holds."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from jobs import console
from jobs.errors import run as run_app
from jobs.help import PLAIN
from pipeline.stages.sequence import standings
from pipeline.storage.ledger import count_durable
from pipeline.storage.state import State

app = typer.Typer(**PLAIN)


@app.command()
def status(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what an output holds: videos done, running, quarantined with reasons, chunks durable, people found."""
    state = State.open(uri)
    durable = count_durable(state.store)
    done = state.done()
    quarantined = [row for row in state.videos.values() if row["status"] == "quarantined"]
    running = {row["video_id"] for row in state.sources.values() if row["status"] == "pending"} - set(state.videos)
    unreadable = [row for row in state.sources.values() if row["status"] == "quarantined" and row["video_id"] is None]
    sequences = standings(state)
    told = {
        "videos": {"done": len(done), "running": len(running), "quarantined": len(quarantined)},
        "chunks": {"durable": sum(durable.values())},
        "sources": dict(Counter(row["status"] for row in state.sources.values())),
        "persons": sum(state.videos[video_id]["num_persons"] for video_id in done),
        "configurations": len({state.videos[video_id]["config_id"] for video_id in done}),
        "quarantined": [
            {name: row[name] for name in ("uri", "stage", "reason")}
            for row in sorted([*quarantined, *unreadable], key=lambda row: row["uri"])
        ],
        "sequences": [asdict(one) for one in sequences],
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    videos = told["videos"]
    console.say(f"{state.store.uri}: {videos['done']} videos done with {told['persons']} persons")
    if videos["running"]:
        console.say(f"{videos['running']} videos not done yet, {told['chunks']['durable']} chunks of them durable")
    if told["configurations"] > 1:
        console.say(f"mixed: {told['configurations']} configurations (column config_id of videos)")
    for one in sequences:
        console.say(f"sequence {one}")
    if told["quarantined"]:
        table = Table("quarantined", "stage", "reason", box=None, pad_edge=False, header_style="bold")
        for row in told["quarantined"]:
            table.add_row(row["uri"], row["stage"], row["reason"])
        console.console.print(table)


if __name__ == "__main__":
    run_app(app)
