"""`rollcall annotate`: copies of videos and pictures with a box around each person."""

import sys
from typing import Annotated

import typer

from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import Address, Scale, Settings, VideoCodec, Videos, WaitLease
from jobs.shared.copying import CopyOptions, annotate_videos, run_config, select_videos
from jobs.shared.holding import holding
from jobs.shared.run_json import new_run_id
from pipeline.cores.plan import exact
from pipeline.flow.engine import stop_ray
from pipeline.storage.output_index import OutputIndex
from pipeline.video.annotation import Annotation

app = typer.Typer(**PLAIN)


@app.command()
def annotate(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    video: Videos = None,
    frames_with_people: Annotated[
        bool, typer.Option(help="Leave out frames without people. The copy is shorter then and has no sound.")
    ] = False,
    clock: Annotated[bool, typer.Option(help="Write the time and the frame rate into the picture.")] = False,
    scale: Scale = 1.0,
    codec: VideoCodec = "h264",
    address: Address = None,
    settings: Settings = None,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Make a copy of each video and picture with a box around each person, under URI/annotated.

    A label has the person's id, gender, age and the 80 % interval of the age; `?` stands for what is not stated. Every
    frame of the source is in the copy, when the source shows it. A copy that exists for the same tables is kept.
    """
    config = run_config(address, settings or [])
    index = OutputIndex.open(uri)
    index.store.check_writable()
    chosen = select_videos(index, video) if video else None
    annotation = Annotation(with_clock=clock, leaves_out=frames_with_people)
    options = CopyOptions(codec, exact(scale))
    try:
        with holding(index.store, "annotate", new_run_id(), wait_lease) as held:
            outcome = annotate_videos(OutputIndex.load(held), config, annotation, options, chosen)
    finally:
        stop_ray()
    if outcome.status:
        sys.exit(outcome.status)


if __name__ == "__main__":
    run_command(app)
