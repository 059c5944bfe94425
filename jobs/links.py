"""`rollcall links`: why tracklets are or are not one person, and pictures of the doubtful pairs."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.console import count, say
from jobs.cli.errors import run_command
from jobs.cli.help import PLAIN
from jobs.cli.options import STARTER, Profile, Settings, Videos
from jobs.shared.copying import select_videos, sources_of
from jobs.shared.finding_faces import face_finder, load_config
from pipeline.config import Config
from pipeline.errors import DataError, PassingError, UserError
from pipeline.storage.names import Names
from pipeline.storage.output_index import OutputIndex
from pipeline.video.anonymisation import FrameFaces
from pipeline.video.doubts import PairOfTracklets, config_of, read_pairs

FAILED = 3

app = typer.Typer(**PLAIN)


@app.command()
def links(
    uri: Annotated[str, typer.Argument(help="The output of `process`.", show_default=False)],
    video: Videos = None,
    doubtful: Annotated[
        bool,
        typer.Option("--doubtful", help="The pairs nearest to the decision, nearest first: half joined, half apart."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most pairs of a video.")] = 20,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of each of these pairs into this folder.")
    ] = None,
    profile: Profile = STARTER,
    settings: Settings = None,
) -> None:
    """Show for pairs of tracklets whether they are one person, and the figures that decided.

    A picture shows the frames next to the gap and both people at three moments. Heads are covered, unless the video
    was processed with biometrics.keep=true. --profile and --set choose the detector that finds faces to be covered.
    """
    if draw is None and (settings or profile != STARTER):
        raise UserError("--profile and --set choose the face detector of --draw; leave them out, or add --draw DIR")
    index = OutputIndex.open(uri)
    chosen = select_videos(index, video) if video else set(index.done())
    if draw is not None:
        _check_folder(draw)
    names, failed = Names(), 0
    finder: FrameFaces | None = None
    for video_id in sorted(chosen, key=index.file_names):
        name, row = index.file_names(video_id)[0], index.videos[video_id]
        try:
            config = config_of(index.store, row)
            pairs, num_pairs = read_pairs(index.store, video_id, config, doubtful=doubtful, limit=limit)
            _show(name, pairs, num_pairs, doubtful=doubtful)
            if draw is not None and pairs:
                if not (config.biometrics.keep or finder):
                    finder = face_finder(load_config(settings or [], profile))
                faces = None if config.biometrics.keep else finder
                _draw(index, video_id, config, pairs, faces, draw, names.give(name, ""))
        except (DataError, PassingError) as error:
            failed += 1
            say(f"{row['uri']}: {error}")
    if failed:
        sys.exit(FAILED)


def _check_folder(folder: Path) -> None:
    """Raise UserError if no folder can be made there. What is made to learn this is removed again."""
    made: list[Path] = []
    try:
        made += [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--draw {folder}: {error.strerror}; give a folder that can be written") from None
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _show(name: str, pairs: Sequence[PairOfTracklets], num_pairs: int, *, doubtful: bool) -> None:
    shown = f", {'the most doubtful' if doubtful else 'the first'} {len(pairs)}" if len(pairs) < num_pairs else ""
    say(f"{name}: {count(num_pairs, 'pair')} of tracklets{shown}")
    for pair in pairs:
        a, b = (
            f"tracklet {number} (person {person})" for number, person in zip(pair.tracklets, pair.persons, strict=True)
        )
        say(f"  {a} until {pair.end_s:.2f} s, {b} from {pair.start_s:.2f} s: {pair}")


def _draw(
    index: OutputIndex,
    video_id: str,
    config: Config,
    pairs: Sequence[PairOfTracklets],
    faces: FrameFaces | None,
    folder: Path,
    name: str,
) -> None:
    from pipeline.video.pair_pictures import draw_pairs  # decoding takes a second to import

    uris = sources_of(index, video_id)
    place = folder / name
    for pair, picture in draw_pairs(index.store, video_id, uris, config, pairs, faces):
        place.mkdir(parents=True, exist_ok=True)
        a, b = pair.tracklets
        (place / f"{a:04d}-{b:04d}.png").write_bytes(picture)
    say(f"  {count(len(pairs), 'picture')} -> {place}")


if __name__ == "__main__":
    run_command(app)
