"""`rollcall compact`: the tables of an output in few large files, for analysis."""

import sys
from typing import Annotated

import typer

from jobs.cli.console import count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import WaitLease
from jobs.shared.holding import holding
from jobs.shared.run_json import new_run_id
from pipeline.storage.compaction import KEPT, compact_output
from pipeline.storage.output_index import open_output
from pipeline.storage.snapshots import FOLDER
from pipeline.video import forgetting

LEFT_OUT = 3
SHOWN = 10

app = typer.Typer(**PLAIN)


@app.command()
def compact(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    wait_lease: WaitLease = 0.0,
) -> None:
    """Write the tables of an output to few large files: a snapshot, URI/compact/GENERATION, for fast analysis.

    `rollcall tables URI` shows the current snapshot. Only new and changed videos are read again.
    """
    store = open_output(uri)
    store.check_writable()
    with holding(store, "compact", new_run_id(), wait_lease) as held:
        forgetting.finish(held)
        compaction = compact_output(held)
    snapshot = compaction.snapshot
    folder = store.full(f"{FOLDER}/{snapshot.generation}")
    if not compaction.is_new:
        say(f"nothing has changed since the snapshot of {snapshot.made_at:%Y-%m-%d %H:%M:%S} UTC: {folder}")
        return
    num_files = sum(map(len, snapshot.parts.values()))
    num_rows = sum(snapshot.num_rows(name) for name in snapshot.parts)
    copied = f", {compaction.num_copied} of them as they were" if compaction.num_copied else ""
    say(
        f"{count(snapshot.num_videos, 'video')}, {compaction.num_read:,} of them new or changed, "
        f"{count(num_rows, 'row')} in {count(num_files, 'file')}{copied} -> {folder}"
    )
    if snapshot.replaced:
        say(f"earlier snapshots stay for {KEPT.days} days after their replacement")
    for video_id, reason in list(compaction.left_out.items())[:SHOWN]:
        say(f"left out: video {video_id}: {reason}; process makes it again from the video")
    if len(compaction.left_out) > SHOWN:
        say(f"… and {len(compaction.left_out) - SHOWN} more videos")
    if compaction.left_out:
        sys.exit(LEFT_OUT)


if __name__ == "__main__":
    run_command(app)
