"""`rollcall bench gpu`: `process` on a card."""

import shutil
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmarks.card import measure_process
from jobs.benchmarks.made_videos import FPS, crowd, repeat_video, write_video
from jobs.benchmarks.options import JsonFile, Quick, Repeats, words_of
from jobs.benchmarks.report import Report, Row
from jobs.benchmarks.setting import Knobs, probe_video, scratch_folder
from jobs.benchmarks.side_by_side import Measures, spreads_of, take_turns
from jobs.cli.console import say
from jobs.cli.options import STARTER, ConfigFiles, Profile, Settings
from jobs.shared.checks import verified_models
from pipeline.errors import UserError
from pipeline.models.gpu import has_gpu
from pipeline.storage.sources import VIDEO_SUFFIXES

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
MADE_S = 4
QUICK = {"videos": 1, "seconds": 2.0, "repeats": 1, "sizes": "720p"}


def gpu(
    crowded: Annotated[Path | None, typer.Option(help="A crowded video; without it, one is made.")] = None,
    sparse: Annotated[Path | None, typer.Option(help="A video with few people; without it, one is made.")] = None,
    many: Annotated[int, typer.Option(min=1, help="People in the frames of the crowded video that is made.")] = 50,
    few: Annotated[int, typer.Option(min=0, help="People in the frames of the sparse video that is made.")] = 5,
    sizes: Annotated[str, typer.Option(help="Sizes of the videos that are made: 720p, 1080p.")] = "720p,1080p",
    videos: Annotated[int, typer.Option(min=1, help="Videos in a run.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each video. A shorter one is repeated.")] = 30,
    most_s: Annotated[float, typer.Option("--most", help="s; a run that takes longer is interrupted.")] = 900,
    repeats: Repeats = 1,
    quick: Quick = False,
    config: ConfigFiles = None,
    settings: Settings = None,
    profile: Profile = STARTER,
    json_file: JsonFile = None,
) -> None:
    """Process crowded and sparse videos on a card: decoded and analysed frames per second, video-hours per GPU-hour,
    and the shares of time in which the multiprocessors, the decoder and the cores are busy.

    The rates count from the first moment at which the card works to the last. Starting and loading models stand beside
    them. On a machine without a card the command says so and ends with status 2.
    """
    if not has_gpu():
        raise UserError("there is no GPU that torch can use on this machine; bench gpu needs one")
    for option, given in (("--crowded", crowded), ("--sparse", sparse)):
        if given is not None:
            probe_video(given, f"{option} {given}")
    if quick:
        videos, seconds, repeats, sizes = QUICK["videos"], QUICK["seconds"], QUICK["repeats"], QUICK["sizes"]
    knobs = Knobs.of(config, settings, profile)
    verified_models(knobs.config())
    chosen = {"videos": videos, "seconds": seconds, "repeats": repeats, "many": many, "few": few}
    report = Report("gpu", chosen, quick=quick)
    with report.published(json_file):
        with scratch_folder() as folder:
            ways: dict[str, Callable[[], Measures]] = {}
            for name, given, people in (("crowded", crowded, many), ("sparse", sparse, few)):
                if given is not None:
                    cases = {f"{name} {given.name}": given}
                else:
                    cases = {
                        f"{name} {size}": _made(folder, people, size) for size in words_of(sizes, SIZES, "--sizes")
                    }
                for case, video in cases.items():
                    sources = folder / f"{case.replace(' ', '-')}-sources"
                    sources.mkdir()
                    suffix = video.suffix if video.suffix.lower() in VIDEO_SUFFIXES else ".mp4"
                    for number in range(videos):
                        repeat_video(video, sources / f"{number}{suffix}", seconds, number)
                    ways[case] = partial(_run, sources, knobs, most_s, count())
            rounds = take_turns(ways, repeats, say)
        report.rows = [Row({}, way, spreads_of(rounds, way)) for way in ways]


def _run(sources: Path, knobs: Knobs, most_s: float, numbers: "count[int]") -> Measures:
    output = sources.with_name(f"{sources.name}-out-{next(numbers)}")
    try:
        return measure_process(sources, output, knobs.words(), most_s)
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _made(folder: Path, people: int, size: str) -> Path:
    path = folder / f"{people}-{size}.mp4"
    say(f"making a video of {people} people, {size}")
    write_video(path, crowd(people, *SIZES[size], MADE_S * FPS))
    return path
