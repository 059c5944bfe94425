"""`rollcall anonymise`: copies of videos and pictures in which nobody can be recognised."""

import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from jobs.cli.console import count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, Address, Profile, Scale, Settings, VideoCodec, Videos, WaitLease
from jobs.cli.person_keys import parse_person
from jobs.shared.copying import CopyOptions, CopyOutcome, copy_videos, select_videos
from jobs.shared.finding_faces import face_finder, load_config
from jobs.shared.holding import holding
from jobs.shared.run_json import new_run_id
from pipeline.config import Config
from pipeline.cores.covering import Cover, Style
from pipeline.cores.plan import exact
from pipeline.errors import UserError
from pipeline.flow.engine import stop_ray
from pipeline.flow.tasks import running_tasks
from pipeline.storage import copies
from pipeline.storage.output_index import OutputIndex
from pipeline.video.anonymisation import Anonymisation, FrameFaces
from pipeline.video.audit import FOLDER, SHEET, audit_copy, write_audit

app = typer.Typer(**PLAIN)


class Sound(StrEnum):
    """What becomes of the sound."""

    KEEP = "keep"
    DROP = "drop"


@app.command()
def anonymise(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="VIDEO_ID:PERSON_ID", help="One who stays visible; repeat it.")
    ] = None,
    video: Videos = None,
    cover: Annotated[Cover, typer.Option(help="What is covered.")] = Cover.HEAD,
    style: Annotated[Style, typer.Option(help="How it is covered. Only fill keeps nothing.")] = Style.FILL,
    sound: Annotated[Sound, typer.Option(help="Voices identify people, too.")] = Sound.KEEP,
    search_faces: Annotated[
        bool, typer.Option(help="Also cover faces that belong to no tracked person, and search the copies for faces.")
    ] = True,
    scale: Scale = 1.0,
    codec: VideoCodec = "h264",
    profile: Profile = STARTER,
    address: Address = None,
    settings: Settings = None,
    wait_lease: WaitLease = 0.0,
) -> None:
    """Make a copy of each video and picture in which heads or bodies are covered, under URI/anonymised.

    Everybody is covered but those named by --keep. `anonymised/_audit.json` and `_audit.png` show the frames in which a
    face detector still finds something: look at them before the copies leave your hands.
    """
    named = [*(settings or []), *([f"run.address={address}"] if address else [])]
    config = load_config(named, profile, "run")
    faces = face_finder(config) if search_faces else None
    config = faces.config if faces else config
    kept = frozenset(parse_person("--keep", text) for text in keep or [])
    index = OutputIndex.open(uri)
    index.store.check_writable()
    chosen = select_videos(index, video) if video else None
    _check_kept(index, kept)
    painting = Anonymisation(faces, kept, cover, style, keeps_sound=sound is Sound.KEEP)
    try:
        with holding(index.store, "anonymise", new_run_id(), wait_lease) as held:
            index = OutputIndex.load(held)
            outcome = copy_videos(index, config, FOLDER, painting, CopyOptions(codec, exact(scale)), chosen)
            if faces is not None:
                _audit(index, config, painting, faces, outcome)
    finally:
        stop_ray()
    if outcome.status:
        sys.exit(outcome.status)


def _check_kept(index: OutputIndex, kept: frozenset[tuple[str, int]]) -> None:
    for video_id, person_id in sorted(kept):
        if not person_id >= 1 or video_id not in index.done():
            raise UserError(f"--keep {video_id}:{person_id}: there is no such finished video; `persons` has the ids")


def _audit(
    index: OutputIndex, config: Config, painting: Anonymisation, faces: FrameFaces, outcome: CopyOutcome
) -> None:
    """Search the copies for faces, write the findings and say how many there are."""
    names = copies.copy_names(index, FOLDER)
    made = {video_id: of_video[0] for video_id, of_video in names.items() if of_video[0] in outcome.made}
    if not made:
        return
    with running_tasks(config, say) as tasks:
        audits = [
            task.result()
            for task in [
                tasks.submit(
                    partial(audit_copy, index.store, video_id, name, frozenset(painting.kept_in(video_id)), faces)
                )
                for video_id, name in made.items()
            ]
        ]
    write_audit(index.store, audits, config.faces.detector)
    num_frames = sum(audit.num_frames for audit in audits)
    num_found = sum(len(audit.findings) for audit in audits)
    look = f"; look at {index.store.full(SHEET)}" if num_found else ""
    say(f"audit: a face detector finds something in {num_found:,} of {count(num_frames, 'searched frame')}{look}")


if __name__ == "__main__":
    run_command(app)
