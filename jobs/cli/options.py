"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Identity(StrEnum):
    """The two kinds of ids that an output gives to people."""

    PERSON = "person"
    TRACKLET = "tracklet"


ConfigFiles = Annotated[
    list[Path] | None, typer.Option("--config", help="A configuration file over the defaults; repeat it, later wins.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One knob, as observe.fps=4; repeat it, later wins."),
]
Profile = Annotated[
    str,
    typer.Option(
        help="A profile that comes with Rollcall: starter, models that ship with it; full or crowd, fetched models."
    ),
]
STARTER = "starter"
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", help="Files, folders, globs, s3:// objects or prefixes, or @LIST.", show_default=False
    ),
]
SequenceBy = Annotated[
    str | None,
    typer.Option(
        "--sequence",
        metavar="folder",
        help="The videos of each folder follow one another, in order of their names: one camera, many files.",
    ),
]
Ids = Annotated[
    Identity,
    typer.Option(
        help="Which ids of an output: of persons, over the whole video, or of tracklets, unbroken appearances."
    ),
]
WaitLease = Annotated[
    float,
    typer.Option(
        "--wait-lease", metavar="SECONDS", min=0, help="How long to wait for another run that holds the output."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(help="A folder, or s3://bucket/prefix. Without it, run.output.", metavar="URI", show_default=False),
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster; without it, processes of this machine work.")]
Videos = Annotated[
    list[str] | None,
    typer.Option(
        "--video", metavar="NAME", help="Only this one: a video_id, or the end of a source's path; repeat it."
    ),
]
Scale = Annotated[float, typer.Option(min=0.05, max=4, help="Size of the copy, as a share of the displayed size.")]
VideoCodec = Annotated[
    str,
    typer.Option("--codec", help="h264 or hevc, in hardware where it works; or an encoder of FFmpeg, as libx264."),
]
